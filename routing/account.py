"""Account: ANSWERED -> COSTED. What each query cost, and what it would have cost on the other model."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from routing.matching import resolve_models, served_names
from routing.pricing import counterfactual, price
from schemas.billing import USD
from schemas.queries import Costed


@dataclass(frozen=True, slots=True)
class Billing:
    """Who bills for one model."""

    model: str
    base_url: str
    provider: str | None
    mean_output_tokens: int
    """Output length to assume for queries that the other model answered: this model's own mean in this run."""


def usage(replies: pl.DataFrame, billing: Mapping[str, Billing]) -> pl.DataFrame:
    """Add the USAGE columns that prices are joined on to rows with model, served_model, service_tier and token columns.

    Args:
        replies: Needs `model` (as requested), the fields of `routing.replies.read_bodies` and `answered_at`.
        billing: Requested model -> who bills for it.
    """
    urls = {side.model: side.base_url for side in billing.values()}
    providers = {side.model: side.provider for side in billing.values()}
    return replies.with_columns(
        provider=pl.col("model").replace_strict(providers, default=None, return_dtype=pl.String),
        base_url=pl.col("model").replace_strict(urls, default=None, return_dtype=pl.String),
        model=pl.coalesce("served_model", "model"),
        processing=pl.col("service_tier"),
        called_at=pl.col("answered_at"),
        cache_write_tokens=pl.lit(None, pl.Int64),
        cache_write_1h_tokens=pl.lit(None, pl.Int64),
    )


def cost(answered: pl.DataFrame, prices: pl.DataFrame, billing: Mapping[str, Billing]) -> pl.DataFrame:
    """ANSWERED -> COSTED: one row out for each row in, same order.

    A query without a billed reply (failed or unsent) cost 0 as far as the provider told us, and is left out of the
    comparison with the other model. A reply with status 200 that cannot be read is billed all the same, so it is
    unpriced. Input tokens of the comparison are those observed; output tokens are modelled by
    the other model's mean in this run, within the row's own limit (docs/cost.md).

    Args:
        answered: ANSWERED.
        prices: PRICES.
        billing: `strong` and `weak` -> who bills.
    """
    bills, billed = usage(answered, billing), _billed()
    sides = {}
    for side, account in billing.items():
        length = pl.min_horizontal(pl.lit(account.mean_output_tokens, pl.Int64), "max_output_tokens")
        modelled = counterfactual(
            bills.with_columns(modelled_tokens=length),
            prices,
            model=account.model,
            provider=account.provider,
            base_url=account.base_url,
            output_tokens="modelled_tokens",
        )
        sides[f"{side}_cost_usd"] = modelled["cost_usd"].cast(USD)
    costed = (
        observed(answered, prices, billing)
        .with_columns(**sides)
        .with_columns(
            pl.when(billed & (pl.col("route") == side)).then("cost_usd").when(billed).then(name).alias(name)
            for side, name in (("strong", "strong_cost_usd"), ("weak", "weak_cost_usd"))
        )
    )
    return Costed.validate(costed.with_columns(saved_vs_strong_usd=pl.col("strong_cost_usd") - pl.col("cost_usd")))


def observed(answered: pl.DataFrame, prices: pl.DataFrame, billing: Mapping[str, Billing]) -> pl.DataFrame:
    """Add `cost_usd`, `price_id` and `unpriced_reason` to rows of `routing.replies.outcomes`, any mix of models.

    A call without a billed reply cost 0; null money is unpriced.

    Args:
        answered: As `outcomes` gives them, with `model` as requested.
        prices: PRICES.
        billing: Role -> who bills.
    """
    bills, billed = usage(answered, billing), _billed()
    costs = price(bills, prices, resolve_models(served_names(bills), prices))
    return answered.with_columns(
        cost_usd=costs["cost_usd"].cast(USD), price_id=costs["price_id"], unpriced_reason=costs["unpriced_reason"]
    ).with_columns(
        cost_usd=pl.when(billed).then("cost_usd").otherwise(pl.lit(0).cast(USD)),
        price_id=pl.when(billed).then("price_id"),
        unpriced_reason=pl.when(billed).then("unpriced_reason"),
    )


def _billed() -> pl.Expr:
    """A reply that cannot be read is billed all the same."""
    unread = pl.col("error_code").eq_missing(pl.lit("malformed_response"))
    return pl.col("finish_reason").is_not_null() | pl.col("input_tokens").is_not_null() | unread


def spent(paid: pl.DataFrame, prices: pl.DataFrame, billing: Mapping[str, Billing]) -> pl.DataFrame:
    """Price every billed reply of the ledger, whether its answer is used or not: rows of `read_bodies` -> COSTS."""
    bills = usage(paid, billing)
    return price(bills, prices, resolve_models(served_names(bills), prices))
