"""Stage of an evaluation: what changes of prompts that leave their meaning alone do to the routes; other languages.

Alpha is fixed on the unchanged prompts at each strong share, with the tie rule of `routing.split`, as it is when one
night's alpha is used for the next. A flip costs quality or money; a flip to strong costs the owner's money at a user's
word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from jobs.config_file import Section
from jobs.training import read_table
from routing.agreement import side, split_table, strong_side
from routing.benchmarks import matching
from routing.confounder import WinRatesOf, find_confounder, random_pieces, suffix
from routing.errors import DataError
from routing.metrics import Floats
from routing.perturbations import PERTURBATIONS
from schemas.evaluation import Drift, Robustness
from schemas.run import Split

MIN_PROMPTS = 4
"""Different ones: a quarter of them is tuned on."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WHOLE = "all"
"""Name of the group that is the whole table."""


class ConfounderSection(Section):
    """A suffix that is optimised against each router, see `routing.confounder`."""

    length: int = Field(10, ge=1)
    """Word pieces of the suffix."""
    tuning_prompts: int = Field(16, ge=1)
    """Prompts that it is tuned on; it is measured on others. At most a quarter of a benchmark is taken."""
    candidates: int = Field(16, ge=1)
    """Pieces tried at one place of the suffix before the next place is looked at."""
    max_queries: int = Field(10_000, ge=1)
    """Prompts that may be scored for one router and benchmark."""

    @model_validator(mode="after")
    def _one_round(self) -> "ConfounderSection":
        # Each prompt as it is, with the first suffix, and with every candidate.
        least = (2 + self.candidates) * self.tuning_prompts
        if self.max_queries < least:
            raise ValueError(
                f"max_queries = {self.max_queries} is less than the {least} of one round ({self.candidates} candidates "
                f"on {self.tuning_prompts} prompts); raise it, or lower candidates or tuning_prompts"
            )
        return self


class RobustnessSection(Section):
    """Changes of the prompts, and what is measured of them."""

    benchmarks: tuple[str, ...] = Field(min_length=1)
    """Names of benchmarks of this evaluation whose prompts are changed."""
    max_prompts: int = Field(1_000, ge=10)
    """Prompts of a benchmark that are scored anew for each change, drawn with the seed."""
    perturbations: tuple[str, ...] = tuple(PERTURBATIONS)
    """Names of `routing.perturbations`."""
    strong_shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.2, 0.5, 0.8)
    """Where alpha is fixed on the unchanged prompts."""
    confounder: ConfounderSection | None = None
    """Left out, no router is attacked; `confounder = {}` attacks with the defaults."""

    @field_validator("perturbations")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in PERTURBATIONS]:
            raise ValueError(f"{unknown} are no perturbations; choose from {list(PERTURBATIONS)}")
        return names


class DriftSection(Section):
    """Prompts in other languages or of other kinds, without grades."""

    path: str
    """Table in the data folder."""
    prompt: str = "prompt"
    """Its column of prompts."""
    where: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Column -> value or values; other rows are passed over."""
    groups: dict[str, str] = Field(default_factory=lambda: {"language": "lang", "category": "category"})
    """Name in the report -> column of the table."""
    min_prompts: int = Field(20, ge=2)
    """Smallest group that is shown."""


@dataclass(frozen=True, slots=True)
class Target:
    """A router under attack."""

    name: str
    win_rates: WinRatesOf
    """Asked for thousands of texts that nobody needs again: not to be cached."""
    pieces: Sequence[str]
    """What its confounder is made of: `routing.confounder.word_pieces` of its tokenizer."""


def robustness(
    target: Target, prompts: Sequence[str], *, benchmark: str, section: RobustnessSection, seed: int
) -> list[Robustness]:
    """Return what each change does to a router on a benchmark.

    Args:
        target: The router.
        prompts: All prompts of the benchmark.
        benchmark: Its name.
        section: What is changed.
        seed: Of the drawn prompts and of the confounder.

    Raises:
        DataError: fewer than `MIN_PROMPTS` different prompts.
        ConfigError: no piece of the router's vocabulary can be typed.
    """
    measured, tuning = _drawn(prompts, section, seed)
    unchanged = target.win_rates(measured)
    splits = {str(share): strong_side(unchanged, share)[0] for share in section.strong_shares}

    def row(name: str, texts: Sequence[str], detail: str) -> Robustness:
        rates = target.win_rates(texts)
        moves = {share: _moves(unchanged, rates, split) for share, split in splits.items()}
        return Robustness(
            benchmark=benchmark,
            router=target.name,
            perturbation=name,
            n=len(measured),
            flips={share: flips for share, (flips, _) in moves.items()},
            to_strong={share: to_strong for share, (_, to_strong) in moves.items()},
            mean_shift=float((rates - unchanged).mean()),
            detail=detail,
        )

    found = []
    for name in section.perturbations:
        texts = pl.select(PERTURBATIONS[name](pl.lit(pl.Series(measured)))).to_series().to_list()
        changed = sum(before != after for before, after in zip(measured, texts, strict=True))
        found.append(row(name, texts, f"{changed:,} of {len(measured):,} prompts changed"))
    if section.confounder is not None:
        options = section.confounder
        control = random_pieces(target.pieces, length=options.length, seed=seed)
        found.append(row("random suffix", _with(measured, control), f"appended:{suffix(control)}"))
        attack = find_confounder(
            target.win_rates,
            tuning,
            target.pieces,
            length=options.length,
            candidates=options.candidates,
            max_queries=options.max_queries,
            seed=seed,
        )
        detail = (
            f"appended:{attack.text} | mean win rate of the {len(tuning)} prompts it was tuned on: "
            f"{attack.before:.3f} -> {attack.after:.3f}, in {attack.queries:,} queries"
        )
        found.append(row("confounder suffix", _with(measured, attack.pieces), detail))
    return found


def different_prompts(prompts: Sequence[str]) -> list[str]:
    """Return each prompt once.

    Raises:
        DataError: there are fewer than `MIN_PROMPTS`.
    """
    found = list(dict.fromkeys(prompts))
    if len(found) < MIN_PROMPTS:
        raise DataError(
            f"robustness needs at least {MIN_PROMPTS} different prompts, got {len(found)}; give more, or leave the "
            "benchmark out of robustness.benchmarks"
        )
    return found


def drift_table(section: DriftSection, data: Path) -> pl.DataFrame:
    """Read the table of a drift section: `prompt`, and a String column for each group name.

    Raises:
        InputMissingError: it is missing.
        DataError: a column is missing, or no row has a prompt.
    """
    where = {name: (value,) if isinstance(value, str) else value for name, value in section.where.items()}
    raw = matching(read_table(data / section.path), where, name=section.path)
    if missing := [name for name in (section.prompt, *section.groups.values()) if name not in raw.columns]:
        raise DataError(
            f"{section.path}: columns {missing} are missing, got {raw.columns}; name others in drift.groups"
        )
    columns = {"prompt": section.prompt} | section.groups
    rows = raw.select(pl.col(theirs).cast(pl.String).alias(ours) for ours, theirs in columns.items())
    rows = rows.filter(pl.col("prompt").str.strip_chars() != "")
    if rows.is_empty():
        raise DataError(f"{section.path}: no row of {len(raw)} has a prompt")
    return rows


def drift(rows: pl.DataFrame, win_rates: Floats, *, router: str, section: DriftSection) -> list[Drift]:
    """Return how the win rates of each group lie against the whole table, which comes first.

    A drift is no error by itself: languages and categories differ in what they ask. It says where alpha, fixed on a
    whole table, buys more or less of the strong model.

    Args:
        rows: What `drift_table` returned.
        win_rates: Of its prompts, shape (n,).
        router: Name of the router.
        section: The groups.
    """
    _, strong = strong_side(win_rates, 0.5)
    table = rows.select(*section.groups).with_columns(
        win_rate=pl.Series(win_rates, dtype=pl.Float64), strong=pl.Series(strong)
    )
    parts = [(WHOLE, table)]
    for name in section.groups:
        groups = table.drop_nulls(name).partition_by(name, as_dict=True)
        large = {str(value): part for (value,), part in groups.items() if len(part) >= section.min_prompts}
        parts += [(f"{name} = {value}", large[value]) for value in sorted(large, key=lambda v: (-len(large[v]), v))]
    return [_drift(router, group, part) for group, part in parts]


def _drift(router: str, group: str, part: pl.DataFrame) -> Drift:
    rates = part["win_rate"].to_numpy()
    return Drift(
        router=router,
        group=group,
        n=len(part),
        mean=float(rates.mean()),
        quantiles=np.quantile(rates, QUANTILES).tolist(),
        strong_share=float(part["strong"].to_numpy().mean()),
    )


def _drawn(prompts: Sequence[str], section: RobustnessSection, seed: int) -> tuple[list[str], list[str]]:
    """Return different prompts to measure on, and others to tune a confounder on."""
    different = different_prompts(prompts)
    order = np.random.default_rng(seed).permutation(len(different))
    n_tuning = 0 if section.confounder is None else min(section.confounder.tuning_prompts, len(different) // 4)
    rows = [different[i] for i in order]
    return rows[n_tuning : n_tuning + section.max_prompts], rows[:n_tuning]


def _with(prompts: Sequence[str], pieces: Sequence[str]) -> list[str]:
    return [text + suffix(pieces) for text in prompts]


def _moves(before: Floats, after: Floats, split: Split) -> tuple[float, float]:
    """Share of all prompts that change sides, and that move to the strong one."""
    was, now = (side(split_table(rates), split) for rates in (before, after))
    return float((was != now).mean()), float((now & ~was).mean())
