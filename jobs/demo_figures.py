"""What the demo shows: routes at an alpha, what they cost, and the curve that all alphas draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import floor
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.errors import DataError
from routing.estimate import SPLIT, Pricing, estimate
from routing.metrics import Floats, Interval, average_pgr, bootstrap, tie_groups
from routing.pricing import RateCard, Unpriced, rate_card
from routing.score import TOKENS_PER_MESSAGE, TOKENS_PER_REPLY
from routing.split import by_alpha, is_strong
from schemas.billing import STANDARD, USD

ALPHA_STEP: Final = 0.001
LENGTH: Final = "longest first"
"""The baseline `length`."""
_COSTS: Final = ("strong_usd", "weak_usd")


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that the user chose."""

    model: str
    provider: str | None
    output_tokens: int
    """Assumed mean answer length."""

    def rates(self, prices: pl.DataFrame, at: datetime) -> RateCard | Unpriced:
        """Return what it charges at a moment, or why that is unknown."""
        return rate_card(self.model, prices, at=at, provider=self.provider)


@dataclass(frozen=True, slots=True)
class Curve:
    """Cost and quality at every cut that some alpha makes, from all weak to all strong."""

    strong_share: Floats
    """Shape (points,), rising from 0 to 1."""
    quality: Floats
    """Mean score of the chosen answers, same shape."""
    usd_per_1000: Floats | None
    """Mean cost of a thousand prompts, same shape; null where a model is unpriced."""

    def at(self, strong_share: float) -> int:
        """Return the point whose strong share is nearest."""
        return int(np.abs(self.strong_share - strong_share).argmin())

    def pgr(self, point: int) -> float | None:
        """Performance gap recovered at a point; null where the strong model is not better."""
        gap = self.quality[-1] - self.quality[0]
        return float((self.quality[point] - self.quality[0]) / gap) if gap > 1e-9 else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an alpha does to all prompts. Dollars are exact sums; null is unpriced, never free."""

    n: int
    n_strong: int
    usd: Decimal | None
    all_strong_usd: Decimal | None
    all_weak_usd: Decimal | None

    @property
    def strong_share(self) -> float:
        """Share of the prompts that go to the strong model."""
        return self.n_strong / self.n

    @property
    def saved_share(self) -> float | None:
        """Share of the bill of all strong that is saved."""
        if self.usd is None or not self.all_strong_usd:
            return None
        return float(1 - self.usd / self.all_strong_usd)


def model_names(prices: pl.DataFrame, at: datetime) -> dict[str, tuple[str, str]]:
    """Return `provider/model` -> (provider, model) of everything in PRICES that writes text at a moment.

    Models whose price no row can hold are among them: they are shown as unpriced.
    """
    now = pl.lit(at)
    writes = pl.col("output_usd_per_mtok").is_not_null() | pl.col("excluded_reason").is_not_null()
    offered = prices.filter(
        pl.col("valid_from").is_null() | (pl.col("valid_from") <= now),
        pl.col("valid_to").is_null() | (pl.col("valid_to") > now),
        pl.col("provider").is_not_null(),
        writes,
        processing=STANDARD,
    )
    names = offered.select("provider", "model").unique().sort("provider", "model").rows()
    return {f"{provider}/{model}": (provider, model) for provider, model in names}


def chosen(label: str, names: Mapping[str, tuple[str, str]], output_tokens: int) -> Choice:
    """Return the model that a label of `model_names` means; any other text is the name of a model."""
    provider, model = names.get(label, (None, label))
    return Choice(model, provider, output_tokens)


def costs(
    text_tokens: NDArray[np.int64], strong: Choice, weak: Choice, prices: pl.DataFrame, *, at: datetime
) -> pl.DataFrame:
    """Return what each prompt is expected to cost on either model: prompt_tokens, strong_usd, weak_usd.

    Args:
        text_tokens: Length of each prompt in tokens of a router, shape (n,).
        strong: The strong model.
        weak: The weak model.
        prices: PRICES.
        at: The day whose prices hold.

    Returns:
        One row a prompt, in order; dollars are Decimal(38, 12), null where the model is unpriced.
    """
    framing = TOKENS_PER_REPLY + TOKENS_PER_MESSAGE
    table = pl.DataFrame({"prompt_tokens": text_tokens + framing}).with_columns(
        max_output_tokens=pl.lit(None, pl.Int64)
    )
    for side, choice in (("strong", strong), ("weak", weak)):
        model = Pricing(
            model=choice.model,
            base_url="",
            provider=choice.provider,
            expected_output_tokens=choice.output_tokens,
            output_limit=None,
        )
        table = estimate(table, prices, model, prefix=side, at=at, columns=SPLIT)
    return table.drop("max_output_tokens")


def outcome(win_rates: Floats, costed: pl.DataFrame, alpha: float) -> Outcome:
    """Return what an alpha does: strong iff win_rate >= alpha.

    Args:
        win_rates: Of one router, shape (n,), n >= 1.
        costed: See `costs`.
        alpha: In [0, 1].
    """
    table = costed.with_columns(win_rate=pl.Series(win_rates, dtype=pl.Float64))
    split = by_alpha(table, alpha)
    all_strong, all_weak = (_total(costed[column]) for column in _COSTS)
    return Outcome(split.n, split.n_strong, split.expected_usd, all_strong, all_weak)


def routes(prompts: pl.DataFrame, costed: pl.DataFrame, rates: Mapping[str, Floats], alpha: float) -> pl.DataFrame:
    """Return the table of all prompts: what each would cost on either model, and what each router makes of it.

    Args:
        prompts: `prompt`, and both scores where they are known.
        costed: See `costs`.
        rates: Router -> win rates, shape (n,).
        alpha: In [0, 1].

    Returns:
        prompt; per router `NAME win rate` and `NAME route`; tokens, strong USD, weak USD; then scores. Dollars are
        Float64, or text in a column where some are unpriced.
    """
    pieces = [prompts.select("prompt")]
    for name, win_rates in rates.items():
        rated = costed.with_columns(win_rate=pl.Series(win_rates, dtype=pl.Float64))
        strong = is_strong(by_alpha(rated, alpha))
        pieces.append(
            rated.select(
                pl.col("win_rate").alias(f"{name} win rate"),
                pl.when(strong).then(pl.lit("strong")).otherwise(pl.lit("weak")).alias(f"{name} route"),
            )
        )
    pieces.append(costed.rename({"prompt_tokens": "tokens", "strong_usd": "strong USD", "weak_usd": "weak USD"}))
    pieces.append(prompts.drop("prompt").rename(lambda column: column.replace("_", " ")))
    table = pl.concat(pieces, how="horizontal")
    return table.with_columns(_shown(table))


def curve(order: Floats, strong: Floats, weak: Floats, costed: pl.DataFrame) -> Curve:
    """Return the curve of an order: as `routing.metrics.cost_quality_curve`, with dollars.

    Unlike that one it is drawn where the strong model is not better, too: a router may expect that of a few prompts.

    Args:
        order: Higher goes strong first, equal ones together, shape (n,), n >= 1.
        strong: Score of the strong model's answers, same shape.
        weak: Score of the weak model's answers, same shape.
        costed: See `costs`.
    """
    ranked, ends = tie_groups(order)

    def sums(values: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(values[ranked])[ends]])

    share = np.concatenate([[0.0], (ends + 1) / len(order)])
    usd = None
    if not any(costed[column].null_count() for column in _COSTS):
        on_strong, on_weak = (costed[column].cast(pl.Float64).to_numpy() for column in _COSTS)
        usd = 1_000 * (on_weak.mean() + sums(on_strong - on_weak) / len(order))
    return Curve(share, weak.mean() + sums(strong - weak) / len(order), usd)


def claim(win_rates: Floats) -> tuple[Floats, Floats]:
    """Return the scores that a router expects of both models where the better of two answers counts 1, the other 0."""
    return win_rates, 1.0 - win_rates


def apgr(win_rates: Floats, strong: Floats, weak: Floats) -> Interval | None:
    """Return APGR on labels with its 95 % interval; null where the strong model is not better, or too few tell."""
    try:
        return bootstrap(win_rates, strong, weak, average_pgr, seed=0)
    except DataError:
        return None


def curve_table(curves: Mapping[str, Curve], by_length: Mapping[str, Curve], *, one_truth: bool) -> pl.DataFrame:
    """Return curves in numbers: at each tenth of the strong share the nearest point of each.

    Args:
        curves: Router -> curve.
        by_length: Router -> curve of the baseline under the scores that this router is drawn with.
        one_truth: These scores are the same for all.

    Returns:
        curve, strong share, quality, USD per 1,000 (left out where unpriced).
    """
    if one_truth:
        baselines = {LENGTH: next(iter(by_length.values()))}
    else:
        baselines = {f"{LENGTH} ({name})": found for name, found in by_length.items()}
    rows = [
        {
            "curve": name,
            "strong share": float(found.strong_share[point]),
            "quality": float(found.quality[point]),
            "USD per 1,000": None if found.usd_per_1000 is None else float(found.usd_per_1000[point]),
        }
        for name, found in (dict(curves) | baselines).items()
        for point in dict.fromkeys(found.at(tenth / 10) for tenth in range(11))
    ]
    table = pl.DataFrame(rows)
    return table.drop("USD per 1,000") if table["USD per 1,000"].null_count() else table


def alpha_range(rates: Mapping[str, Floats]) -> tuple[float, float, float]:
    """Return where alpha moves anything, in hundredths, and the median of the first router's win rates.

    At the lower end every router sends all prompts to the strong model, at the upper end none (but those of win rate
    1).
    """
    low = min(float(win_rates.min()) for win_rates in rates.values())
    high = max(float(win_rates.max()) for win_rates in rates.values())
    start = float(np.median(next(iter(rates.values()))))
    return floor(low * 100) / 100, min(1.0, (floor(high * 100) + 1) / 100), round(start, 3)


def _total(usd: pl.Series) -> Decimal | None:
    return None if usd.null_count() else Decimal(usd.sum())


def _shown(table: pl.DataFrame) -> list[pl.Expr]:
    """Dollars as numbers; a column with unpriced ones as text that says so."""
    dollars = [column for column, dtype in table.schema.items() if dtype == USD]
    return [
        pl.col(column).cast(pl.Float64)
        if not table[column].null_count()
        else pl.col(column).round(6).cast(pl.String).fill_null("unpriced")
        for column in dollars
    ]
