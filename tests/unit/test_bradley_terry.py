import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from routing.bradley_terry import POINTS_PER_STRENGTH, Anchor, ratings, strengths, tiers
from routing.errors import DataError


def table(*rows: tuple[str, str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["model_a", "model_b", "winner", "weight"], orient="row")


def test_two_models_have_the_odds_of_their_wins() -> None:
    """Three weighted wins to one: odds 3, so 400 log10 3 = 190.85 points apart, around the mean of 1000."""
    found = ratings(table(("x", "y", "model_a", 2.5), ("y", "x", "model_b", 0.5), ("y", "x", "model_a", 1.0)))
    expected = pl.DataFrame({"model": ["x", "y"], "rating": [1000 + 200 * np.log10(3), 1000 - 200 * np.log10(3)]})
    assert_frame_equal(found, expected, abs_tol=1e-6)


def test_three_models_of_a_cycle_follow_from_the_likelihood_equations() -> None:
    """Odds 2 from one to the next are reproduced exactly where the pair counts are those the odds 2, 2, 4 expect."""
    wins = (("x", "y", "model_a", 4.0), ("x", "y", "model_b", 2.0), ("y", "z", "model_a", 4.0))
    found = ratings(table(*wins, ("y", "z", "model_b", 2.0), ("x", "z", "model_a", 4.0), ("z", "x", "model_a", 1.0)))
    step = 400 * np.log10(2)
    assert found["model"].to_list() == ["x", "y", "z"]
    assert found["rating"].to_numpy() == pytest.approx([1000 + step, 1000, 1000 - step], abs=1e-6)


def test_a_tie_is_half_a_win_for_each_side() -> None:
    ties = table(("x", "y", "tie", 2.0), ("x", "y", "model_a", 1.0))
    halves = table(("x", "y", "model_a", 2.0), ("x", "y", "model_b", 1.0))
    assert_frame_equal(ratings(ties), ratings(halves))


def test_the_anchor_has_its_rating_and_differences_stay() -> None:
    battles = table(("x", "y", "model_a", 3.0), ("x", "y", "model_b", 1.0))
    found = ratings(battles, anchor=Anchor(1082.0, "y"))
    assert found["rating"].to_numpy() == pytest.approx([1082 + 400 * np.log10(3), 1082], abs=1e-6)


def test_a_battle_of_a_model_with_itself_changes_nothing() -> None:
    battles = table(("x", "y", "model_a", 3.0), ("x", "y", "model_b", 1.0))
    assert_frame_equal(ratings(pl.concat([battles, table(("x", "x", "model_a", 9.0))])), ratings(battles))


def test_long_distances_converge() -> None:
    """Neighbours at odds 1000 over twenty models: 19 times 1200 points, far from where Newton starts."""
    battles = [
        (f"m{i:02}", f"m{i + 1:02}", side, n) for i in range(19) for side, n in (("model_a", 1e3), ("model_b", 1))
    ]
    found = ratings(table(*battles))
    assert np.diff(found["rating"].to_numpy()) == pytest.approx(-1200, abs=1e-4)


def test_many_tables_at_once_are_the_tables_one_by_one() -> None:
    rng = np.random.default_rng(0)
    wins = rng.uniform(0.1, 5.0, (7, 4, 4)) * (1 - np.eye(4))
    one_by_one = np.stack([strengths(table) for table in wins])
    assert strengths(wins) == pytest.approx(one_by_one, abs=1e-8)
    assert strengths(wins, start=rng.normal(size=4)) == pytest.approx(one_by_one, abs=1e-8)


def test_a_start_on_the_wrong_side_is_left_in_short_steps() -> None:
    """Unshortened, Newton's first step from 10 would lead to -11,000."""
    assert strengths(np.array([[0.0, 3.0], [1.0, 0.0]]), start=np.array([10.0, 0.0])) == pytest.approx([np.log(3), 0])


def test_a_strength_of_ln_10_is_400_points() -> None:
    assert np.log(10) * POINTS_PER_STRENGTH == pytest.approx(400)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("x", "y", "tie", 1.0), ("u", "v", "tie", 1.0), ("u", "w", "tie", 1.0)], r"2 groups .* \['x', 'y'\] and"),
        ([("x", "y", "tie", 1.0), ("u", "x", "model_a", 1.0)], r"\['u'\] never lose to the others"),
        ([("x", "y", "tie", 1.0), ("u", "x", "model_b", 1.0)], r"\['u'\] never win from the others"),
        ([("x", "x", "tie", 1.0)], r"battles of \['x'\]; at least two"),
        ([("x", "y", "tie", 1.0), ("x", "y", "tie (bothbad)", 1.0)], r"got \['tie \(bothbad\)'\]; map"),
    ],
)
def test_battles_without_an_answer_are_refused(rows: list[tuple[str, str, str, float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ratings(table(*rows))


def test_an_unknown_anchor_is_refused() -> None:
    with pytest.raises(DataError, match=r"anchor 'z' has no battles; choose one of \['x', 'y'\]"):
        ratings(table(("x", "y", "tie", 1.0)), anchor=Anchor(1000.0, "z"))


def rated(*values: float) -> pl.DataFrame:
    return pl.DataFrame({"model": [f"m{i}" for i in range(len(values))], "rating": values})


def test_tiers_minimise_the_sum_of_variances() -> None:
    """Two pairs and a single: variances 25 + 1 + 0; every other split in three has a larger sum."""
    found = tiers(rated(1000, 1200, 1010, 1198, 500), 3)
    assert found.rows() == [("m1", 0), ("m3", 0), ("m2", 1), ("m0", 1), ("m4", 2)]


def test_a_tier_counts_once_whatever_its_size() -> None:
    """9 | 5 2 1 0 has variances 0 + 3.5, 9 5 | 2 1 0 has 4 + 0.67; weighted by size it would be 14 to 10."""
    assert tiers(rated(9, 5, 2, 1, 0), 2)["tier"].to_list() == [0, 1, 1, 1, 1]


def test_as_many_tiers_as_models_are_the_order() -> None:
    assert tiers(rated(1, 3, 2), 3).rows() == [("m1", 0), ("m2", 1), ("m0", 2)]
    assert tiers(rated(5, 5, 5), 3)["tier"].to_list() == [0, 1, 2]


@pytest.mark.parametrize("n_tiers", [0, 3])
def test_fewer_models_than_tiers_are_refused(n_tiers: int) -> None:
    with pytest.raises(DataError, match=rf"{n_tiers} tiers of 2 models: ask for 1 to 2"):
        tiers(rated(1.0, 2.0), n_tiers)


def test_infinite_ratings_have_no_tiers() -> None:
    with pytest.raises(DataError, match=r"finite, got \[\{'model': 'm1'"):
        tiers(rated(1.0, float("inf")), 1)
