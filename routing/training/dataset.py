"""What a router is fitted on: battles and the labels of its pair, split by prompt."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.bradley_terry import a_wins
from routing.errors import DataError
from routing.training.preferences import held_out
from schemas.preferences import Labels


@dataclass(frozen=True, slots=True)
class Classes:
    """Which models count as strong and which as weak: RouteLLM labels with classes of tiers, not with two models.

    Source: arXiv 2406.18665, section 4.1.
    """

    strong: tuple[str, ...]
    weak: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows to fit on and rows held out; no prompt is on both sides."""

    battles: pl.DataFrame
    """BATTLES between any two models."""
    labels: pl.DataFrame
    """LABELS: what the battles between the two classes say, one row a prompt."""
    held_out_battles: pl.DataFrame
    held_out_labels: pl.DataFrame
    strong: str
    """Model that stands for the strong class where a router names single models (`sw`, `mf`)."""
    weak: str


def labels(battles: pl.DataFrame, classes: Classes) -> pl.DataFrame:
    """BATTLES -> LABELS: keep battles between the two classes, seen from the strong side.

    Raises:
        DataError: no battle is between the classes.
    """
    strong_first = pl.col("model_a").is_in(classes.strong) & pl.col("model_b").is_in(classes.weak)
    strong_second = pl.col("model_b").is_in(classes.strong) & pl.col("model_a").is_in(classes.weak)
    won, weight = pl.col("won"), pl.col("weight")
    rows = (
        battles.with_columns(won=pl.Series(a_wins(battles)))
        .filter(strong_first | strong_second, weight > 0)
        .with_columns(won=pl.when(strong_first).then(won).otherwise(1.0 - won))
        .group_by("prompt", maintain_order=True)
        .agg(
            target=((won * weight).sum() / weight.sum()).clip(0.0, 1.0),
            tie=(((won == 0.5) * weight).sum() / weight.sum()).clip(0.0, 1.0),
            weight=weight.sum(),
            source=pl.col("source").first(),
        )
    )
    if rows.is_empty():
        raise DataError(
            f"no battle is between the strong models {list(classes.strong)} and the weak models {list(classes.weak)}; "
            "name models of the battles in [pair], or use tiers"
        )
    return Labels.validate(rows)


def centred(labels: pl.DataFrame) -> pl.DataFrame:
    """LABELS -> LABELS: give every source the same mean target, that of all labels together.

    What is left to learn is which prompts of a benchmark are hard, not which benchmark a prompt looks like; that part
    does not carry over to others. A target that would leave [0, 1] is cut there, so the means of a source of plain wins
    and losses only come closer; ties shrink with the target where they would exceed it.
    """
    mean = (pl.col("target") * pl.col("weight")).sum() / pl.col("weight").sum()
    own = (pl.col("target") * pl.col("weight")).sum().over("source") / pl.col("weight").sum().over("source")
    target = (pl.col("target") - own + mean).clip(0.0, 1.0)
    tie = pl.min_horizontal("tie", 2.0 * pl.col("target"), 2.0 - 2.0 * pl.col("target"))
    return Labels.validate(labels.with_columns(target=target).with_columns(tie=tie.clip(0.0, 1.0)))


def split(
    battles: pl.DataFrame, classes: Classes, *, strong: str, weak: str, share: float, seed: int, centre: bool = False
) -> TrainingSet:
    """Hold out a share of the prompts that have labels; their battles leave the training side altogether.

    Args:
        battles: BATTLES.
        classes: The two sides of the labels.
        strong: See `TrainingSet`.
        weak: See `TrainingSet`.
        share: Share of the labelled prompts to hold out.
        seed: Draws them.
        centre: Whether labels are centred by source, see `centred`.

    Raises:
        DataError: a side is empty, or one side's labels all say the same.
    """
    found = labels(battles, classes)
    found = centred(found) if centre else found
    aside = held_out(found["prompt"], share=share, seed=seed).to_frame("prompt")
    kept, rest = (found.join(aside, on="prompt", how=how, maintain_order="left") for how in ("anti", "semi"))
    for name, rows in (("training", kept), ("held-out", rest)):
        _two_sided(rows["target"].to_numpy(), name)
    return TrainingSet(
        battles=battles.join(aside, on="prompt", how="anti", maintain_order="left"),
        labels=kept,
        held_out_battles=battles.join(aside, on="prompt", how="semi", maintain_order="left"),
        held_out_labels=rest,
        strong=strong,
        weak=weak,
    )


def check_disjoint(dataset: TrainingSet) -> None:
    """Refuse a data set that validates on what it was fitted on.

    Raises:
        DataError: a prompt is on both sides.
    """
    fitted, aside = (
        pl.concat([part.select("prompt") for part in side])
        for side in ((dataset.battles, dataset.labels), (dataset.held_out_battles, dataset.held_out_labels))
    )
    both = fitted.join(aside, on="prompt", how="semi")["prompt"].unique()
    if len(both):
        raise DataError(
            f"{len(both)} prompts are in training and in validation at once, e.g. {both.sort()[0][:60]!r}; "
            "split by prompt, or drop them from one side"
        )


def _two_sided(target: NDArray[np.float64], name: str) -> None:
    if len(target) and target.min() != target.max():
        return
    said = (
        "no label" if not len(target) else f"{len(target)} labels, all {target[0]:g} (1 = strong wins, 0 = weak wins)"
    )
    raise DataError(
        f"the {name} side has {said}: nothing can be learned or measured; add battles that the other side won, "
        "or change split.held_out_share or split.seed"
    )
