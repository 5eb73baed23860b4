"""What calls cost: one join of usage with dated prices, exact in Decimal. No row is ever looked up on its own."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl

from routing.errors import DataError
from routing.matching import NAME, SNAPSHOT, resolve_models, served_names
from routing.prices import OVERRIDE
from schemas.billing import STANDARD, USD, Costs, Usage

MILLION = Decimal(1_000_000)
UNKNOWN_TOKENS = "tokens unknown"
"""Why a call has no cost, where prices cannot help."""

_EVER, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_INT64_MAX = 2**63 - 1
_KEY = ["name_id", "processing"]
_RATES = [
    "price_id",
    "input_usd_per_mtok",
    "cached_input_usd_per_mtok",
    "cache_write_usd_per_mtok",
    "cache_write_1h_usd_per_mtok",
    "output_usd_per_mtok",
    "request_usd",
    "excluded_reason",
]


@dataclass(frozen=True, slots=True)
class RateCard:
    """The price of one model at one moment, for planning."""

    price_id: str
    model: str
    processing: str
    at: datetime
    input_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal
    cache_write_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal | None
    """Null where unknown (an embedding model)."""
    request_usd: Decimal
    max_input_tokens: int | None
    """Longest prompt that pays these rates; null without a higher tier."""
    not_covered: str | None
    """What the provider bills besides."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A warning: the model has no price, so that its cost is unknown, which is not $0."""

    model: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}: its cost is unknown, not $0; set a price override for {self.model!r} to count it"


def price(usage: pl.DataFrame, prices: pl.DataFrame, resolved: pl.DataFrame) -> pl.DataFrame:
    """USAGE x PRICES x RESOLVED -> usage + COSTS: the same rows in the same order, with what each call cost.

    cost_usd = ((input - cached - cache_write) * input rate + cached * cached rate
    + (cache_write - cache_write_1h) * write rate + cache_write_1h * hour rate + output * output rate) / 10**6
    + request_usd. A missing cached or write rate is the input rate, a missing hour rate the write rate. The sum is
    exact; the division rounds half to even at 1e-12 USD, and only where a rate has more than six decimals.

    Args:
        usage: Further columns travel along; COSTS columns already there are replaced.
        prices: See `routing.prices.price_snapshot`.
        resolved: `resolve_models(served_names(usage), prices)`, or of a table with more names.

    Raises:
        DataError: A USAGE column is missing or of another type, or a name is missing in `resolved`.
    """
    calls = _with_names(_conform(usage), resolved)
    costed = _cost(calls.join(_matches(calls, prices, resolved), on="call", how="left", maintain_order="left"))
    return usage.with_columns(costed.select(Costs.column_names()))


def counterfactual(
    usage: pl.DataFrame,
    prices: pl.DataFrame,
    *,
    model: str,
    provider: str | None = None,
    base_url: str | None = None,
    processing: str = STANDARD,
    output_tokens: str = "output_tokens",
) -> pl.DataFrame:
    """USAGE x PRICES -> COSTS: what the same calls would have cost on another model, one row for each, in order.

    Input tokens stay as they were, and so does what the cache served; for a cold cache pass null `cached_tokens` and
    `cache_write_tokens`. The result is modelled, not observed: another model has another tokenizer.

    Args:
        usage: Needs the USAGE columns but not their provider, base_url, model and processing.
        prices: See `routing.prices.price_snapshot`.
        model: The other model.
        provider: Who serves it; else `base_url` tells, else the name alone.
        base_url: Its endpoint.
        processing: How it would have been called.
        output_tokens: Column with the output tokens that the other model is expected to write.
    """
    if output_tokens not in usage.columns:
        raise DataError(f"usage has no column {output_tokens!r} with the expected output tokens; got {usage.columns}")
    name = {"provider": provider, "base_url": base_url, "model": model, "processing": processing}
    other = usage.with_columns(
        pl.col(output_tokens).alias("output_tokens"),
        *(pl.lit(value, dtype=pl.String).alias(column) for column, value in name.items()),
    )
    resolved = resolve_models(pl.DataFrame([name]).cast(pl.String), prices)
    return price(other, prices, resolved).select(Costs.column_names())


def rate_card(
    model: str,
    prices: pl.DataFrame,
    *,
    at: datetime,
    provider: str | None = None,
    base_url: str | None = None,
    processing: str = STANDARD,
    input_tokens: int = 0,
) -> RateCard | Unpriced:
    """Return the rates of one model at one moment for prompts of `input_tokens`, or the warning that there are none.

    Args:
        model: Name as the endpoint serves it.
        prices: See `routing.prices.price_snapshot`.
        at: A moment with a zone.
        provider: Who serves it; else `base_url` tells, else the name alone.
        base_url: Endpoint of the model.
        processing: `standard`, `batch` or a tier.
        input_tokens: Length of the prompt, which decides the tier.
    """
    call = {"provider": provider, "base_url": base_url, "model": model, "processing": processing}
    tokens = {"input_tokens": input_tokens, "cached_tokens": 0, "cache_write_tokens": 0, "output_tokens": 0}
    usage = pl.DataFrame([call | tokens | {"called_at": at}], schema=Usage.create_empty().schema)
    resolved = resolve_models(served_names(usage), prices)
    reason = price(usage, prices, resolved)["unpriced_reason"].item()
    if reason is not None:
        return Unpriced(model, reason)
    row = _matches(_with_names(_conform(usage), resolved), prices, resolved).row(0, named=True)
    return RateCard(
        price_id=row["price_id"],
        model=model,
        processing=processing,
        at=at,
        input_usd_per_mtok=row["input_usd_per_mtok"],
        cached_input_usd_per_mtok=row["cached_input_usd_per_mtok"],
        cache_write_usd_per_mtok=row["cache_write_usd_per_mtok"],
        output_usd_per_mtok=row["output_usd_per_mtok"],
        request_usd=row["request_usd"],
        max_input_tokens=None if row["tier_to"] == _INT64_MAX else row["tier_to"],
        not_covered=row["not_covered"],
    )


def _conform(usage: pl.DataFrame) -> pl.DataFrame:
    """Return the USAGE columns in their types, with `default` and null processing as `standard`, and a `call` number.

    Raises:
        DataError: Names every column that is missing or of a type that cannot be read without loss.
    """
    wrong = []
    for name, dtype in Usage.create_empty().schema.items():
        got = usage.schema.get(name)
        if got is None:
            wrong.append(f"{name}: missing (a column of nulls says 'unknown')")
        elif got != pl.Null and not _reads_as(got, dtype):
            wrong.append(f"{name}: {got}, expected {dtype}")
    if wrong:
        raise DataError("the usage table cannot be priced:\n  " + "\n  ".join(wrong))
    default = pl.col("processing").is_null() | (pl.col("processing") == "default")
    return (
        usage.select(Usage.column_names())
        .cast(Usage.create_empty().schema)
        .with_columns(
            pl.when(default).then(pl.lit(STANDARD)).otherwise("processing").alias("processing"),
            pl.col("cached_tokens", "cache_write_tokens", "cache_write_1h_tokens").fill_null(0),
        )
        .with_row_index("call")
    )


def _reads_as(got: pl.DataType, expected: pl.DataType) -> bool:
    if isinstance(expected, pl.Datetime):
        return isinstance(got, pl.Datetime) and got.time_zone is not None  # a time without a zone is a guess
    if expected == pl.Int64:
        return got.is_integer()
    return got == pl.String or isinstance(got, pl.Categorical | pl.Enum)


def _with_names(calls: pl.DataFrame, resolved: pl.DataFrame) -> pl.DataFrame:
    """Number the served names, so that later joins compare integers, and say which of them any price matches."""
    names = _numbered(resolved).group_by("name_id", *NAME).agg(known=pl.col("price_model").is_not_null().any())
    named = calls.join(names, on=NAME, how="left", nulls_equal=True, maintain_order="left")
    unresolved = named.filter(pl.col("name_id").is_null()).select(NAME).unique()
    if not unresolved.is_empty():
        raise DataError(
            f"{len(unresolved)} served names are not resolved, e.g. {unresolved.row(0, named=True)}; "
            "pass resolve_models(served_names(usage), prices)"
        )
    return named


def _numbered(resolved: pl.DataFrame) -> pl.DataFrame:
    return resolved.with_columns(name_id=pl.struct(NAME).rank("dense"))


def _matches(calls: pl.DataFrame, prices: pl.DataFrame, resolved: pl.DataFrame) -> pl.DataFrame:
    """Return `call` and the one price row that holds for it; calls without one are left out."""
    keyed = calls.select("call", *_KEY, "called_at", "input_tokens")
    return (
        keyed.join(_served_rates(prices, resolved), on=_KEY)
        .filter(
            pl.col("called_at") >= pl.col("valid_from"),
            pl.col("called_at") < pl.col("valid_to"),
            pl.col("input_tokens") > pl.col("tier_above"),
            pl.col("input_tokens") <= pl.col("tier_to"),
        )
        .drop(*_KEY, "called_at", "input_tokens")
    )


def _served_rates(prices: pl.DataFrame, resolved: pl.DataFrame) -> pl.DataFrame:
    """PRICES x RESOLVED -> dated rates of each served name; for one call at most one row holds."""
    rates = (
        _numbered(resolved)
        .with_columns(override=pl.col("rank") < SNAPSHOT)
        .join(
            prices.with_columns(override=pl.col("source") == OVERRIDE),
            left_on=["override", "price_provider", "price_model"],
            right_on=["override", "provider", "model"],
            nulls_equal=True,
        )
        .filter(~pl.col("standard_only") | (pl.col("processing") == STANDARD))
        .with_columns(pl.col("valid_from").fill_null(_EVER), pl.col("valid_to").fill_null(_NEVER))
        .sort("min_input_tokens")
    )
    tier = ["name_id", "rank", "processing", "valid_from"]
    priced = rates.with_columns(
        *rates_filled(),
        pl.col("request_usd").fill_null(Decimal(0)),
        # The base rate starts at 0 tokens; a tier starts above its threshold.
        tier_above=pl.when(pl.col("min_input_tokens") == 0).then(-1).otherwise("min_input_tokens"),
        tier_to=pl.col("min_input_tokens").shift(-1).over(tier).fill_null(_INT64_MAX),
    )
    columns = [*_KEY, "valid_from", "valid_to", "tier_above", "tier_to", *_RATES, "not_covered"]
    return _best_ranked(priced).select(columns)


def rates_filled() -> list[pl.Expr]:
    """Over PRICES: what tokens of the cache cost where no rate is theirs alone."""
    own, write, one = (pl.col(f"{kind}_usd_per_mtok") for kind in ("cache_write_1h", "cache_write", "input"))
    return [pl.col("cached_input_usd_per_mtok").fill_null(one), write.fill_null(one), pl.coalesce(own, write, one)]


def _best_ranked(rates: pl.DataFrame) -> pl.DataFrame:
    """Leave to each candidate only the time in which no candidate of a better rank has a price of any processing."""
    contested = pl.col("rank").n_unique().over("name_id") > 1
    rows = rates.filter(contested)
    edges = (
        pl.concat([rows.select("name_id", start=end) for end in ("valid_from", "valid_to")])
        .unique()
        .sort("name_id", "start")
        .with_columns(end=pl.col("start").shift(-1).over("name_id"))
        .drop_nulls("end")
    )
    pieces = (
        rows.join(edges, on="name_id")
        .filter(pl.col("valid_from") <= pl.col("start"), pl.col("end") <= pl.col("valid_to"))
        .filter(pl.col("rank") == pl.col("rank").min().over("name_id", "start"))
        .with_columns(valid_from="start", valid_to="end")
    )
    return pl.concat([rates.filter(~contested), pieces.select(rates.columns)])


def _cost(calls: pl.DataFrame) -> pl.DataFrame:
    """Calls beside their rates -> COSTS. Tokens times rates are summed exactly and divided once."""
    cached, written, hour = (pl.col(name) for name in ("cached_tokens", "cache_write_tokens", "cache_write_1h_tokens"))
    per_million = (
        (pl.col("input_tokens") - cached - written) * pl.col("input_usd_per_mtok")
        + cached * pl.col("cached_input_usd_per_mtok")
        + (written - hour) * pl.col("cache_write_usd_per_mtok")
        + hour * pl.col("cache_write_1h_usd_per_mtok")
        + pl.col("output_tokens") * pl.col("output_usd_per_mtok").fill_null(Decimal(0))
    )
    cost = per_million / pl.lit(MILLION) + pl.col("request_usd")
    priced = pl.col("unpriced_reason").is_null()
    return calls.with_columns(unpriced_reason=_unpriced_reason()).with_columns(
        cost_usd=pl.when(priced).then(cost).cast(USD),
        price_id=pl.when(priced).then("price_id"),
    )


def _unpriced_reason() -> pl.Expr:
    """Why a call has no cost, first reason first; no counts in it, so that a report can group by it."""
    kinds = ("input_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens")
    model, tokens = pl.col("model"), pl.col(kinds)
    unknown_output = pl.col("output_usd_per_mtok").is_null() & (pl.col("output_tokens") > 0)
    too_much = pl.col("cached_tokens") + pl.col("cache_write_tokens") > pl.col("input_tokens")
    return (
        pl.when(model.is_null())
        .then(pl.lit("model unknown"))
        .when(~pl.col("known"))
        .then(pl.format("no price for model '{}'", model))
        .when(pl.any_horizontal(pl.col("input_tokens", "output_tokens").is_null()))
        .then(pl.lit(UNKNOWN_TOKENS))
        .when(pl.any_horizontal(tokens < 0))
        .then(pl.lit("invalid usage: negative token count"))
        .when(too_much)
        .then(pl.lit("invalid usage: cached and cache-write tokens exceed input tokens"))
        .when(pl.col("cache_write_1h_tokens") > pl.col("cache_write_tokens"))
        .then(pl.lit("invalid usage: one-hour cache writes exceed cache writes"))
        .when(pl.col("called_at").is_null())
        .then(pl.lit("time of call unknown"))
        .when(pl.col("price_id").is_null())
        .then(pl.format("no '{}' price for model '{}' at the time of the call", "processing", model))
        .when(pl.col("excluded_reason").is_not_null())
        .then(pl.format("model '{}': {}", model, "excluded_reason"))
        .when(unknown_output)
        .then(pl.format("no output price for model '{}'", model))
    )
