"""From the sources of a training config to what a router is fitted on: read, clean, label, split."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from jobs.console import say
from jobs.fitting import words
from jobs.train_config import Pair, RouterConfig
from jobs.training import read_table
from routing.errors import DataError
from schemas.artifact import Truncation

if TYPE_CHECKING:
    from routing.training.dataset import Classes, TrainingSet

SCREEN_SIF, SCREEN_DIM, SCREEN_CUT = 1e-4, 256, Truncation(head=512, tail=512)
"""The static embeddings that overlap and similarity are looked for with."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the sources gave, with where it came from."""

    battles: pl.DataFrame
    """BATTLES and `table`, the place in the config's sources of the table that a battle came from."""
    dropped: dict[str, int]


def gather(data: Path, config: RouterConfig) -> Gathered:
    """Read every source of a config.

    Raises:
        InputMissingError: a table is missing.
        DataError: a table breaks its contract, or nothing is left of it.
    """
    from routing.training.preferences import Exclusions
    from routing.training.sources import Source, read_source

    classes = named(config.pair)
    parts, dropped = [], dict[str, int]()
    for place, item in enumerate(config.sources):
        path = data / item.path
        source = Source(
            name=item.name or path.stem,
            layout=item.layout,
            weight=item.weight,
            human_weight=item.human_weight,
            exclude=Exclusions(**item.exclude.model_dump()),
            columns=item.columns,
            winners=item.winners,
            turn=item.turn,
            max_prompts=item.max_prompts,
        )
        read = read_source(
            read_table(path), source, classes, min_prompt_chars=config.data.min_prompt_chars,
            balance=config.data.balance_sources, seed=config.split.seed,
        )  # fmt: skip
        say(f"{item.path}: {len(read.battles):,} battles on {read.battles['prompt'].n_unique():,} prompts")
        parts.append(read.battles.with_columns(table=pl.lit(place, pl.UInt32)))
        for reason, count in read.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return Gathered(pl.concat(parts), dropped)


def sides(battles: pl.DataFrame, pair: Pair) -> "Classes":
    """Return which models count as strong and weak: those named, or those of the named tiers.

    Raises:
        DataError: there are fewer models than tiers, no finite ratings, or the pair is not in its tiers.
    """
    from routing.bradley_terry import ratings, tiers
    from routing.training.dataset import Classes
    from routing.training.sw import rated_battles

    if pair.tiers is None:
        return named(pair)
    rated = rated_battles(battles, pair.strong, pair.weak, min_battles=pair.min_battles)
    table = tiers(ratings(rated), pair.tiers)
    chosen = [
        tuple(table.filter(pl.col("tier").is_in(list(wanted)))["model"].to_list())
        for wanted in (pair.strong_tiers, pair.weak_tiers)
    ]
    for side, model, members in (("strong", pair.strong, chosen[0]), ("weak", pair.weak, chosen[1])):
        if model not in members:
            found = table.filter(pl.col("model") == model)["tier"].to_list()
            raise DataError(
                f"pair.{side} {model!r} is in tier {found[0] if found else 'none'}, not in pair.{side}_tiers: the "
                "labels would be of another gap than the router is named for; name its tier, or another model"
            )
    return Classes(strong=chosen[0], weak=chosen[1])


def decontaminated(
    battles: pl.DataFrame, evaluated: pl.Series, config: RouterConfig, base: Path
) -> tuple[pl.DataFrame, int]:
    """Drop the battles on prompts that are evaluation prompts, in the same words or in others.

    Args:
        battles: BATTLES, further columns stay.
        evaluated: Prompts of the evaluation sets.
        config: Names the encoder.
        base: Folder that its path is relative to.

    Returns:
        What is left, and how many prompts were dropped.
    """
    from routing.training.static_mf import contaminated_prompts

    prompts = battles["prompt"].unique().sort()
    others, lexicon = evaluated.unique().sort(), words(config, base)
    found = contaminated_prompts(prompts, others, lexicon, sif=SCREEN_SIF, truncation=SCREEN_CUT).prompts()
    say(f"dropped {len(found)} prompts that are prompts of an evaluation set, {len(prompts) - len(found):,} are left")
    return battles.join(found.to_frame("prompt"), on="prompt", how="anti", maintain_order="left"), len(found)


def training_set(battles: pl.DataFrame, config: RouterConfig) -> "TrainingSet":
    """Label the battles of a config's pair, draw `data.max_prompts` of the labelled prompts, hold out a share of them.

    Args:
        battles: BATTLES, decontaminated; further columns stay.
        config: Pair, split and what of the data is used.

    Raises:
        DataError: as `sides`; no battle is between the two sides, or a side of the split says nothing.
    """
    from routing.training.dataset import check_disjoint, split

    classes, seed = sides(battles, config.pair), config.split.seed
    dataset = split(
        _sampled(battles, classes, config.data.max_prompts, seed), classes,
        strong=config.pair.strong, weak=config.pair.weak, share=config.split.held_out_share, seed=seed,
        centre=config.data.centre_labels,
    )  # fmt: skip
    check_disjoint(dataset)
    return dataset


def named(pair: Pair) -> "Classes":
    """Return the two sides by the names in the config, the pair first."""
    from routing.training.dataset import Classes

    return Classes(
        strong=tuple(dict.fromkeys((pair.strong, *pair.strong_models))),
        weak=tuple(dict.fromkeys((pair.weak, *pair.weak_models))),
    )


def _sampled(battles: pl.DataFrame, classes: "Classes", max_prompts: int | None, seed: int) -> pl.DataFrame:
    """Keep the battles of a seeded sample of the labelled prompts, and every battle that has no label."""
    from routing.training.dataset import labels

    prompts = labels(battles, classes)["prompt"].unique().sort()
    if max_prompts is None or len(prompts) <= max_prompts:
        return battles
    out = prompts.sample(len(prompts) - max_prompts, seed=seed).to_frame("prompt")
    return battles.join(out, on="prompt", how="anti", maintain_order="left")
