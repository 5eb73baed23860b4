"""BATTLES -> LABELS, centring, and a split that no prompt crosses."""

import contextlib
import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routing.errors import DataError
from routing.training.dataset import Classes, TrainingSet, centred, check_disjoint, labels, split
from schemas.preferences import WINNERS, Battles, Labels

CLASSES = Classes(strong=("s1", "s2"), weak=("w1", "w2"))
Row = tuple[str, str, str, str, float]


def battles(*rows: Row, source: str = "made") -> pl.DataFrame:
    schema = ["prompt", "model_a", "model_b", "winner", "weight"]
    return Battles.validate(
        pl.DataFrame(rows, schema=schema, orient="row").with_columns(source=pl.lit(source)), cast=True
    )


def label(prompt: str, target: float, *, tie: float = 0.0, weight: float = 1.0, source: str = "a") -> dict[str, object]:
    return {"prompt": prompt, "target": target, "tie": tie, "weight": weight, "source": source}


def targets(table: pl.DataFrame) -> dict[str, tuple[float, float, float]]:
    return {row["prompt"]: (row["target"], row["tie"], row["weight"]) for row in table.iter_rows(named=True)}


def test_labels_are_weighted_means_seen_from_the_strong_side() -> None:
    found = labels(
        battles(
            ("mixed", "s1", "w1", "model_a", 3.0),
            ("mixed", "w2", "s2", "model_a", 1.0),  # the weak one won, on the other side of the battle
            ("tied", "s1", "w1", "tie", 2.0),
            ("split", "s1", "w1", "model_a", 1.0),
            ("split", "w1", "s1", "model_a", 1.0),  # half as a tie is, and yet no tie
            ("soft", "s1", "w1", "tie", 1.0),
            ("soft", "w1", "s2", "model_b", 1.0),
            ("strong alone", "s1", "s2", "model_a", 1.0),
            ("weak alone", "w1", "w2", "model_a", 1.0),
            ("others", "s1", "x", "model_a", 1.0),
            ("weightless", "s1", "w1", "model_a", 0.0),
        ),
        CLASSES,
    )
    assert targets(found) == {
        "mixed": (0.75, 0.0, 4.0),
        "tied": (0.5, 1.0, 2.0),
        "split": (0.5, 0.0, 2.0),
        "soft": (0.75, 0.5, 2.0),
    }


def test_no_battle_between_the_classes_names_them() -> None:
    with pytest.raises(
        DataError, match=r"no battle is between the strong models \['s1', 's2'\] and .*; name models of"
    ):
        labels(battles(("p", "s1", "x", "tie", 1.0)), CLASSES)


def _means(table: pl.DataFrame) -> dict[str, float]:
    mean = (pl.col("target") * pl.col("weight")).sum() / pl.col("weight").sum()
    return dict(table.group_by("source").agg(mean).iter_rows())


def test_centred_sources_have_one_mean_and_keep_their_order() -> None:
    raw = pl.DataFrame(
        [
            label("p1", 0.9, tie=0.2, source="hard"),
            label("p2", 0.7, weight=3.0, source="hard"),
            label("q1", 0.3, tie=0.6, weight=2.0, source="easy"),
            label("q2", 0.5, tie=1.0, source="easy"),
        ]
    )
    found = centred(raw)
    mean = np.average([0.9, 0.7, 0.3, 0.5], weights=[1, 3, 2, 1])
    assert _means(found) == pytest.approx({"hard": mean, "easy": mean})
    shift = dict(zip(raw["prompt"], found["target"] - raw["target"], strict=True))
    assert shift["p1"] == pytest.approx(shift["p2"])
    assert shift["q1"] == pytest.approx(shift["q2"])
    assert found.drop("target", "tie").equals(raw.drop("target", "tie"))


shares = st.floats(0.0, 1.0)


@given(
    st.lists(st.tuples(shares, shares, st.floats(1e-3, 1e3), st.sampled_from(["a", "b", "c"])), min_size=1, max_size=12)
)
def test_centred_labels_stay_labels(rows: list[tuple[float, float, float, str]]) -> None:
    raw = pl.DataFrame(
        [
            label(f"p{i}", target, tie=tie * 2 * min(target, 1 - target), weight=weight, source=source)
            for i, (target, tie, weight, source) in enumerate(rows)
        ]
    )
    found = centred(raw)
    Labels.validate(found)
    assert (found["target"] - found["tie"] / 2).min() >= -1e-12  # type: ignore[operator]  # a list of one row at least
    assert (1 - found["target"] - found["tie"] / 2).min() >= -1e-12  # type: ignore[operator]
    before, after = _means(raw), _means(found)
    overall = np.average(raw["target"].to_numpy(), weights=raw["weight"].to_numpy())
    for source, mean in after.items():
        # Where a bound cuts, a source comes closer to the common mean; where none does, it reaches it.
        assert abs(mean - overall) <= abs(before[source] - overall) + 1e-9
        inside = found.filter(pl.col("source") == source)["target"].is_between(1e-9, 1 - 1e-9).all()
        assert not inside or mean == pytest.approx(overall, abs=1e-9)


def _split(table: pl.DataFrame, *, share: float = 0.5, seed: int = 0, centre: bool = False) -> TrainingSet:
    return split(table, CLASSES, strong="s1", weak="w1", share=share, seed=seed, centre=centre)


models = st.sampled_from(["s1", "s2", "w1", "w2", "x"])
drawn = st.lists(st.tuples(st.integers(0, 9), models, models, st.sampled_from(WINNERS)), max_size=30)


@given(drawn, st.floats(0.2, 0.8), st.integers(0, 5), st.booleans())
def test_no_prompt_is_on_both_sides_and_no_battle_is_lost(
    rows: list[tuple[int, str, str, str]], share: float, seed: int, centre: bool
) -> None:
    # A floor of both outcomes on twenty prompts; what hypothesis draws comes on top, on these prompts and on others.
    floor: list[Row] = [(f"p{i}", "s1", "w1", WINNERS[i % 2], 1.0) for i in range(20)]
    table = battles(*floor, *((f"p{2 * i}", a, b, winner, 1.0) for i, a, b, winner in rows if a != b))
    found = None
    with contextlib.suppress(DataError):  # by chance one side has one outcome only
        found = _split(table, share=share, seed=seed, centre=centre)
    assume(found is not None)
    assert found is not None
    check_disjoint(found)
    fitted, aside = (set(part["prompt"]) for part in (found.battles, found.held_out_battles))
    assert not fitted & aside
    assert set(found.labels["prompt"]) <= fitted
    assert set(found.held_out_labels["prompt"]) == aside
    assert len(found.battles) + len(found.held_out_battles) == len(table)
    known = labels(table, CLASSES)
    assert len(found.held_out_labels) == round(share * len(known))
    whole = pl.concat([found.labels, found.held_out_labels]).sort("prompt")
    assert whole.equals((centred(known) if centre else known).sort("prompt"))


def test_the_split_goes_by_seed_and_not_by_the_order_of_the_rows() -> None:
    table = battles(*((f"p{i}", "s1", "w1", WINNERS[i % 2], 1.0) for i in range(40)))
    aside = [set(_split(part, seed=seed).held_out_labels["prompt"]) for part, seed in ((table, 1), (table[::-1], 1))]
    assert aside[0] == aside[1] != set(_split(table, seed=2).held_out_labels["prompt"])


def test_one_sided_and_empty_sides_say_what_to_do() -> None:
    won = battles(*((f"p{i}", "s1", "w1", "model_a", 1.0) for i in range(10)))
    with pytest.raises(
        DataError, match=r"training side has 5 labels, all 1 \(1 = strong wins, 0 = weak wins\): nothing"
    ):
        _split(won)
    with pytest.raises(DataError, match="leaves an empty side; use more data or another share"):
        _split(won, share=0.01)
    # One loss cannot be on both sides.
    one = pl.concat([won, battles(("p10", "s1", "w1", "model_b", 1.0))])
    with pytest.raises(
        DataError, match=r"side has .* labels, all 1 .*; add battles that the other side won, or change"
    ):
        _split(one)


def test_a_prompt_on_both_sides_is_refused() -> None:
    fine = _split(battles(*((f"p{i}", "s1", "w1", WINNERS[i // 2 % 2], 1.0) for i in range(20))))
    check_disjoint(fine)
    both = fine.held_out_labels["prompt"][0]
    for leaked in (
        dataclasses.replace(fine, battles=pl.concat([fine.battles, fine.held_out_battles[:1]])),
        dataclasses.replace(fine, labels=pl.concat([fine.labels, fine.held_out_labels[:1]])),
    ):
        with pytest.raises(
            DataError, match=r"1 prompts are in training and in validation at once, e\.g\. 'p\d+'; split by"
        ):
            check_disjoint(leaked)
    assert both not in set(fine.battles["prompt"])
