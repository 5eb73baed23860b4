from decimal import Decimal

import polars as pl
import pytest

from routing.errors import ConfigError
from routing.split import (
    ALL_TIES,
    FREE,
    NO_TIES,
    at_rank,
    by_alpha,
    by_budget,
    by_strong_share,
    expected_usd,
    is_strong,
    route,
    with_gain_per_usd,
)
from schemas.billing import USD
from schemas.run import Split
from tests.fakes import scored

TIED = scored([0.9, 0.5, 0.5, 0.5, 0.5, 0.1], tie_keys=[7, 40, 10, 30, 20, 8])
"""In the order of a split: rows 0, 2, 4, 3, 1, 5."""


def strong_rows(table: pl.DataFrame, split: Split) -> list[int]:
    rows: list[int] = table.filter(is_strong(split))["row"].to_list()
    return rows


def priced(win_rates: list[float], strong: list[str], weak: list[str]) -> pl.DataFrame:
    return scored(win_rates).with_columns(
        strong_usd=pl.Series([Decimal(usd) for usd in strong]).cast(USD),
        weak_usd=pl.Series([Decimal(usd) for usd in weak]).cast(USD),
    )


# ---- alpha ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "strong", "tied"),
    [
        (0.0, [0, 1, 2, 3, 4, 5], 0),
        (0.1, [0, 1, 2, 3, 4, 5], 1),
        (0.5, [0, 1, 2, 3, 4], 4),
        (0.500001, [0], 0),
        (1.0, [], 0),
    ],
)
def test_alpha_sends_every_query_from_it_upwards(alpha: float, strong: list[int], tied: int) -> None:
    split = by_alpha(TIED, alpha)
    assert strong_rows(TIED, split) == strong
    assert (split.rule, split.wanted, split.alpha) == ("alpha", str(alpha), alpha)
    assert (split.n, split.n_strong, split.n_tied, split.n_tied_strong) == (6, len(strong), tied, tied)


def test_alpha_one_still_sends_certain_wins() -> None:
    table = scored([1.0, 0.99])
    assert strong_rows(table, by_alpha(table, 1.0)) == [0]


@pytest.mark.parametrize("alpha", [-0.01, 1.01, float("nan")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match=rf"alpha must lie in \[0, 1\], got {alpha}.*nightroute plan"):
        by_alpha(TIED, alpha)


# ---- strong share ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "strong"),
    [
        (0.0, set()),
        (1 / 6, {0}),
        (0.25, {0, 2}),  # 1.5 rows: halves go up
        (0.5, {0, 2, 4}),
        (5 / 6, {0, 1, 2, 3, 4}),
        (1.0, {0, 1, 2, 3, 4, 5}),
    ],
)
def test_a_share_is_met_to_one_row_and_ties_go_by_tie_key(share: float, strong: set[int]) -> None:
    split = by_strong_share(TIED, share)
    assert set(strong_rows(TIED, split)) == strong
    assert (split.n_strong, split.rule, split.wanted) == (len(strong), "strong_share", str(share))


def test_a_cut_inside_a_tie_group_is_written_down() -> None:
    split = by_strong_share(TIED, 0.5)
    assert (split.alpha, split.tie_key_max) == (0.5, 20)  # the second lowest tie key of the four
    assert (split.n_tied, split.n_tied_strong) == (4, 2)


def test_a_cut_between_tie_groups_needs_no_tie_key() -> None:
    split = by_strong_share(TIED, 5 / 6)
    assert (split.alpha, split.tie_key_max, split.n_tied, split.n_tied_strong) == (0.5, ALL_TIES, 4, 4)


def test_a_share_of_zero_names_the_highest_win_rate_and_sends_none_of_it() -> None:
    split = by_strong_share(scored([0.7, 0.7, 0.2]), 0.0)
    assert (split.alpha, split.tie_key_max, split.n_strong, split.n_tied, split.n_tied_strong) == (
        0.7,
        NO_TIES,
        0,
        2,
        0,
    )


def test_a_wholly_tied_table_is_cut_exactly() -> None:
    table = scored([0.5] * 1000)
    split = by_strong_share(table, 0.3)
    assert len(strong_rows(table, split)) == split.n_strong == 300


def test_ties_are_cut_fairly_by_no_column_of_the_table() -> None:
    table = scored([0.5] * 10_000)
    strong = strong_rows(table, by_strong_share(table, 0.5))
    # First and second half of the table get the same share: +-250 is five standard deviations of a fair draw.
    assert abs(sum(row < 5_000 for row in strong) - 2_500) < 250


def test_the_same_queries_are_cut_the_same_way_in_any_order_of_the_table() -> None:
    table = scored([0.5] * 100)
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=3)
    one, other = by_strong_share(table, 0.37), by_strong_share(shuffled, 0.37)
    assert one == other
    assert set(strong_rows(table, one)) == set(strong_rows(shuffled, other))


@pytest.mark.parametrize("share", [-0.1, 1.5, 37])
def test_a_share_in_percent_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"strong_share must lie in \[0, 1\].*not percent"):
        by_strong_share(TIED, share)


def test_shares_are_exact_decimals_not_binary_fractions() -> None:
    # 0.145 * 100 = 14.5 goes up to 15; as a binary product it is 14.499999999999998 and would go down.
    assert by_strong_share(scored([i / 100 for i in range(100)]), 0.145).n_strong == 15


# ---- budget ---------------------------------------------------------------------------------------------------------

PRICED = priced([0.9, 0.5, 0.5, 0.1], ["0.40", "0.30", "0.20", "0.10"], ["0.01", "0.02", "0.03", "0.04"])
"""All weak costs $0.10. Going strong adds 0.39 for row 0, 0.28 for row 1, 0.17 for row 2 and 0.06 for row 3."""


@pytest.mark.parametrize(
    ("budget", "n_strong", "expected"),
    [
        ("0.10", 0, "0.10"),
        ("0.489999", 0, "0.10"),
        ("0.49", 1, "0.49"),
        ("0.99", 3, "0.94"),
        ("1.00", 4, "1.00"),
        ("50", 4, "1.00"),
    ],
)
def test_a_budget_buys_the_longest_prefix_that_it_covers(budget: str, n_strong: int, expected: str) -> None:
    split = by_budget(PRICED, Decimal(budget))
    assert (split.n_strong, split.expected_usd) == (n_strong, Decimal(expected))
    assert len(strong_rows(PRICED, split)) == n_strong
    assert (split.rule, split.wanted) == ("max_usd", budget)


@pytest.mark.parametrize("win_rates", [[i / 500 for i in range(500)], [0.5] * 500])
def test_one_strong_query_more_would_pass_the_budget(win_rates: list[float]) -> None:
    strong = [f"0.{(i * 7919) % 97 + 3:03d}" for i in range(500)]
    table = priced(win_rates, strong, ["0.002"] * 500)
    budget = Decimal("9.7531")
    split = by_budget(table, budget)
    assert 0 < split.n_strong < 500
    assert split.expected_usd is not None
    assert split.expected_usd <= budget
    one_more = at_rank(table, split.n_strong + 1, rule="max_usd", wanted="")
    assert one_more.expected_usd is not None
    assert one_more.expected_usd > budget


def test_sums_of_money_are_exact() -> None:
    # Ten times $0.1 is $1 exactly; as floats it is 0.9999999999999999 and ten rows of it would differ from $1.
    table = priced([0.5] * 10, ["0.2"] * 10, ["0.1"] * 10)
    assert by_budget(table, Decimal("2.0")).n_strong == 10
    assert by_budget(table, Decimal("1.999999999999")).n_strong == 9


def test_a_strong_model_that_is_cheaper_for_some_queries_makes_room_for_more() -> None:
    # Running extra cost: 0.5, then 0.5 - 0.4 = 0.1: the first query alone does not fit, both do.
    table = priced([0.9, 0.8], ["0.6", "0.1"], ["0.1", "0.5"])
    assert by_budget(table, Decimal("0.75")).n_strong == 2


def test_a_budget_below_all_weak_is_refused_with_the_amount() -> None:
    with pytest.raises(ConfigError, match=r"max_usd = 0\.0999 is less than the 0\.100000 expected .*raise it"):
        by_budget(PRICED, Decimal("0.0999"))


@pytest.mark.parametrize("side", ["strong_usd", "weak_usd"])
def test_a_budget_without_prices_is_refused(side: str) -> None:
    table = PRICED.with_columns(pl.lit(None, USD).alias(side))
    with pytest.raises(ConfigError, match=rf"needs prices for both models, but \['{side}'\].*price\] table"):
        by_budget(table, Decimal(1))


# ---- a budget in the order of the gain per dollar -------------------------------------------------------------------

MIXED = with_gain_per_usd(
    priced([0.9, 0.8, 0.6, 0.55, 0.5, 0.2], ["0.81", "0.13", "0.01", "0.02", "0.01", "0.01"], ["0.01"] * 6)
)
"""Gains .8, .6, .2, .1, 0, -.6 for .80, .12, 0, .01, 0 and 0 dollars more: rows 2 (no dearer), 3, 1, 0; never 4, 5."""


def test_gain_per_dollar_is_the_expected_gap_over_the_extra_cost() -> None:
    assert MIXED["gain_per_usd"].to_list() == pytest.approx([1.0, 5.0, FREE, 10.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("max_usd", "strong", "usd", "threshold"),
    [
        ("0.06", [2], "0.06", FREE),
        ("0.07", [2, 3], "0.07", 10.0),
        ("0.189", [2, 3], "0.07", 10.0),
        ("0.19", [1, 2, 3], "0.19", 5.0),
        ("0.98", [1, 2, 3], "0.19", 5.0),
        ("0.99", [0, 1, 2, 3], "0.99", 1.0),
        ("9", [0, 1, 2, 3], "0.99", 1.0),
    ],
)
def test_a_budget_buys_the_most_gain_a_dollar_first_and_nothing_that_does_not_gain(
    max_usd: str, strong: list[int], usd: str, threshold: float
) -> None:
    split = by_budget(MIXED, Decimal(max_usd), order="gain_per_usd")
    assert strong_rows(MIXED, split) == strong
    assert (split.expected_usd, split.n_strong) == (Decimal(usd), len(strong))
    assert (split.order, split.alpha, split.rule, split.wanted) == ("gain_per_usd", None, "max_usd", max_usd)
    assert split.min_gain_per_usd == pytest.approx(threshold)


def test_the_published_alpha_is_the_win_rate_that_pays_for_the_extra_cost() -> None:
    split = by_budget(MIXED, Decimal("0.19"), order="gain_per_usd")
    routed = route(MIXED, split, strong="big", weak="small")
    # min_gain_per_usd is 5: (1 + 5 * .80) / 2 = 2.5, which no win rate reaches; (1 + 5 * .12) / 2 = .8; ...
    assert routed["alpha"].to_list() == pytest.approx([2.5, 0.8, 0.5, 0.525, 0.5, 0.5])
    assert routed["route"].to_list() == ["weak", "strong", "strong", "strong", "weak", "weak"]


def test_equal_gains_per_dollar_are_cut_by_the_tie_key() -> None:
    table = with_gain_per_usd(
        scored([0.75, 0.75, 0.75, 0.6], tie_keys=[30, 10, 20, 1]).with_columns(
            strong_usd=pl.lit(Decimal("0.02")).cast(USD), weak_usd=pl.lit(Decimal("0.01")).cast(USD)
        )
    )
    split = by_budget(table, Decimal("0.06"), order="gain_per_usd")
    assert (strong_rows(table, split), split.tie_key_max, split.n_tied, split.n_tied_strong) == ([1, 2], 20, 3, 2)


def test_nothing_gains_or_nothing_fits() -> None:
    losing = with_gain_per_usd(priced([0.5, 0.1], ["0.02"] * 2, ["0.01"] * 2))
    for table, max_usd in ((losing, "9"), (MIXED.filter(pl.col("row") == 0), "0.5")):
        split = by_budget(table, Decimal(max_usd), order="gain_per_usd")
        assert (strong_rows(table, split), split.n_strong, split.tie_key_max) == ([], 0, NO_TIES)
    empty = by_budget(MIXED.clear(), Decimal(1), order="gain_per_usd")
    assert (empty.n, empty.n_strong, empty.expected_usd) == (0, 0, Decimal(0))


def test_a_split_by_gain_without_prices_is_refused() -> None:
    hole = with_gain_per_usd(MIXED.drop("gain_per_usd").with_columns(weak_usd=pl.lit(None, USD)))
    with pytest.raises(ConfigError, match=r"needs prices for both models, but \['weak_usd'\]"):
        by_budget(hole, Decimal(1), order="gain_per_usd")


def test_a_split_written_by_an_earlier_version_is_still_read() -> None:
    record = by_alpha(TIED, 0.5).model_dump(mode="json")
    old = {key: record[key] for key in record if key not in ("order", "min_gain_per_usd", "answer_lengths")}
    assert Split.model_validate(old) == by_alpha(TIED, 0.5)


# ---- any rule -------------------------------------------------------------------------------------------------------


def test_an_empty_table_has_a_split() -> None:
    empty = scored([])
    for split in (by_alpha(empty, 0.5), by_strong_share(empty, 0.5)):
        assert (split.n, split.n_strong, split.n_tied) == (0, 0, 0)
        assert route(empty, split, strong="s", weak="w").is_empty()


def test_an_empty_table_costs_nothing() -> None:
    empty = PRICED.clear()
    assert by_budget(empty, Decimal(1)).expected_usd == 0


def test_route_says_where_each_query_goes_and_why() -> None:
    routed = route(TIED, by_strong_share(TIED, 0.5), strong="big", weak="small")
    assert routed["route"].to_list() == ["strong", "weak", "strong", "weak", "strong", "weak"]
    assert routed["model"].to_list() == ["big", "small", "big", "small", "big", "small"]
    assert routed["alpha"].to_list() == [0.5] * 6
    assert routed.schema["route"] == pl.Enum(["weak", "strong"])


def test_tie_keys_use_all_64_bits() -> None:
    table = scored([0.5, 0.5, 0.5], tie_keys=[2**64 - 1, 2**63, 2**63 - 1])
    split = by_strong_share(table, 2 / 3)
    assert (split.tie_key_max, strong_rows(table, split)) == (2**63, [1, 2])


def test_expected_cost_is_unknown_when_one_row_is_unpriced() -> None:
    split = by_alpha(PRICED, 0.5)
    assert expected_usd(PRICED, split) == Decimal("0.40") + Decimal("0.30") + Decimal("0.20") + Decimal("0.04")
    hole = PRICED.with_columns(weak_usd=pl.when(pl.col("row") > 0).then("weak_usd"))
    assert expected_usd(hole, split) is None
