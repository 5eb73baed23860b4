"""FOCUS 1.2: what was paid, in the rows that FinOps tools read (focus.finops.org).

One row is one day, tenant, model, way of processing, price and kind of token. No invoice stands behind it: every cost
is tokens times the rate that held, so the four costs are equal. docs/audit-exports.md says what each column holds.
"""

from decimal import Decimal

import polars as pl
from genai_prices.data import providers as bundled_providers
from genai_prices.data_snapshot import find_provider_by_id

from routing.errors import DataError
from routing.pricing import rates_filled
from schemas.billing import STANDARD, USD

VERSION = "1.2"

MANDATORY = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
)
"""Columns that every FOCUS 1.2 dataset must have. Of them only ChargeClass may be null here: no row is a correction."""

OPTIONAL = (
    "ChargeFrequency",
    "CommitmentDiscountStatus",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedUnitPrice",
    "InvoiceId",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "Tags",
)
"""Recommended columns, and those that a provider with public prices, metered usage and tags must have."""

OWN = ("x_Model", "x_Processing", "x_TokenKind", "x_PriceSource")
"""Ours; FOCUS wants the prefix."""

DAILY = ("day", "tenant", "provider", "model", "processing", "price_id", "billed_calls", "cost_usd")
"""Columns read, beside the token counts."""

MILLION = 1_000_000
QUANTITY = pl.Decimal(38, 6)
"""Millions of tokens, exact to the token."""

_KINDS = {
    "input": ("Input Tokens", "input_usd_per_mtok"),
    "cached_input": ("Cached Input Tokens", "cached_input_usd_per_mtok"),
    "cache_write": ("Cache Write Tokens", "cache_write_usd_per_mtok"),
    "cache_write_1h": ("One-Hour Cache Write Tokens", "cache_write_1h_usd_per_mtok"),
    "output": ("Output Tokens", "output_usd_per_mtok"),
    "request": ("Requests", "request_usd"),
}
"""Kind -> (meter, column of PRICES). Input is what neither came from a cache nor went into one."""

_COSTS = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingCurrencyEffectiveCost")
_UNIT_PRICES = (
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
)
_UNKNOWN = "unknown"

MAKERS = {
    "Anthropic": "claude",
    "Deepseek": "deepseek",
    "NVIDIA": "nemotron",
    "Meta": r"llama|\bmuse-",
    "Alibaba": r"qwen|\bqwq",
    "Google": "gemini|gemma|palm-2|text-bison",
    "Mistral": "mistral|mixtral|ministral|codestral|devstral|magistral|pixtral|voxtral",
    "OpenAI": r"\b(chat)?gpt-|\bo[134](-|$)|codex|davinci|babbage|text-embedding-(ada|3)",
    "Amazon": r"\bamazon\.|\bnova-(micro|lite|pro|premier|sonic|2)",
    "Cohere": r"\bcohere\.|\bcommand-|c4ai-",
    "X AI": r"\bgrok-",
    "MoonshotAi": r"\bkimi-",
    "MiniMax": r"minimax",
    "Z.AI": r"\bglm-",
    "Microsoft": r"\bphi-\d|wizardlm",
    "AI21 Labs": r"jamba|\bai21\.",
    "Perplexity": r"\bsonar",
    "IBM": r"\bgranite-",
}
"""Who made a model -> what its names have in them, in small letters; the first that fits. By the names of genai-prices,
which knows who serves a model: on Bedrock, Azure or Vertex that is another one."""


def focus_rows(daily: pl.DataFrame, prices: pl.DataFrame, *, account: str) -> pl.DataFrame:
    """DAILY x PRICES -> FOCUS 1.2 rows, by day, dearest first.

    Unpriced calls are left out (FOCUS has no unknown cost, and $0 would be wrong), and so are answers of a gateway's
    own cache: no provider charged them. The costs of the rows sum exactly to `cost_usd`. Where a rate has more than
    six decimals, the twelfth decimal that pricing rounded lies on the dearest row of its group.

    Args:
        daily: `DAILY`, with input, cached, cache_write, cache_write_1h and output tokens; calls of one `price_id` are
            one rate.
        prices: The PRICES that the calls were priced with.
        account: Stands for the billing account, which no log names.

    Raises:
        DataError: `daily` names a price that `prices` does not have.
    """
    priced = _with_rates(daily.filter(pl.col("price_id").is_not_null()), prices)
    metered = pl.concat([_metered(priced, kind) for kind in _KINDS])
    dearest = pl.col("cost").arg_max().over("group") == pl.int_range(pl.len()).over("group")
    rest = pl.col("cost_usd") - pl.col("cost").sum().over("group")
    charged = metered.filter(pl.col("quantity") > 0).with_columns(
        cost=pl.when(dearest).then(pl.col("cost") + rest).otherwise("cost")
    )
    return charged.select(_columns(account)).sort(
        "ChargePeriodStart", "BilledCost", "SkuPriceId", "Tags", descending=[False, True, False, False]
    )


def _with_rates(daily: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    rates = prices.select(
        "price_id",
        "source",
        pl.col("provider").alias("price_provider"),
        pl.col("model").alias("price_model"),
        "input_usd_per_mtok",
        *rates_filled(),
        pl.col("output_usd_per_mtok", "request_usd").fill_null(Decimal(0)),
    )
    found = daily.join(rates, on="price_id", how="left", maintain_order="left")
    lost = found.filter(pl.col("input_usd_per_mtok").is_null())["price_id"].unique().to_list()
    if lost:
        raise DataError(
            f"{len(lost)} price ids are not in the price table, e.g. {lost[0]!r}; pass the prices of the audit"
        )
    provider = pl.coalesce("provider", "price_provider", pl.lit(_UNKNOWN))
    names = _names(found.select(provider).to_series())
    return found.with_row_index("group").with_columns(
        pl.col("processing").fill_null(STANDARD),
        provider=provider.replace(names),
        publisher=pl.coalesce(_maker(), provider.replace(names)),
        sku=pl.coalesce(pl.col("price_provider") + "/" + pl.col("price_model"), "price_model"),
        input_meter=pl.col("input_tokens") - pl.col("cached_tokens") - pl.col("cache_write_tokens"),
        cached_input_meter="cached_tokens",
        cache_write_meter=pl.col("cache_write_tokens") - pl.col("cache_write_1h_tokens"),
        cache_write_1h_meter="cache_write_1h_tokens",
        output_meter="output_tokens",
        request_meter=pl.when(pl.col("request_usd") > 0).then("billed_calls").otherwise(0),
    )


def _names(providers: pl.Series) -> dict[str, str]:
    """Ids and other names of providers (`bedrock`, `vertex_ai`) -> what genai-prices calls them, as for prices."""
    found = {name: find_provider_by_id(bundled_providers, name) for name in providers.unique()}
    return {name: provider.name for name, provider in found.items() if provider is not None}


def _maker() -> pl.Expr:
    """Who made the model of a price; null where its name does not say."""
    name = pl.col("price_model").str.to_lowercase()
    return pl.coalesce(pl.when(name.str.contains(pattern)).then(pl.lit(maker)) for maker, pattern in MAKERS.items())


def _metered(priced: pl.DataFrame, kind: str) -> pl.DataFrame:
    """One row for each group: how much of one kind was used, at which rate, for how much."""
    meter, rate = _KINDS[kind]
    used, per = pl.col(f"{kind}_meter"), Decimal(1 if kind == "request" else MILLION)
    return priced.select(
        "group",
        "day",
        "tenant",
        "provider",
        "publisher",
        "model",
        "processing",
        "price_id",
        "source",
        "sku",
        "cost_usd",
        kind=pl.lit(kind),
        meter=pl.lit(meter),
        consumed=used.cast(QUANTITY),
        unit=pl.lit("Requests" if kind == "request" else "Tokens"),
        price_unit=pl.lit("Requests" if kind == "request" else f"{MILLION} Tokens"),
        quantity=(used.cast(USD) / pl.lit(per)).cast(QUANTITY),
        rate=pl.col(rate),
        cost=(used * pl.col(rate) / pl.lit(per)).cast(USD),
    )


def _columns(account: str) -> list[pl.Expr]:
    month = pl.col("day").dt.month_start()
    text = {
        "BillingAccountId": account,
        "BillingAccountName": account,
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeFrequency": "Usage-Based",
        "CommitmentDiscountStatus": None,
        "InvoiceId": None,
        "PricingCategory": "Standard",
        "PricingCurrency": "USD",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
    }
    details = pl.struct(x_Processing="processing", x_TokenKind="kind").struct.json_encode()
    tags = pl.struct(tenant="tenant").struct.json_encode()
    found = {name: pl.lit(value, dtype=pl.String) for name, value in text.items()} | {
        **dict.fromkeys(_COSTS, pl.col("cost")),
        **dict.fromkeys(_UNIT_PRICES, pl.col("rate")),
        "BillingPeriodStart": _instant(month),
        "BillingPeriodEnd": _instant(month.dt.offset_by("1mo")),
        "ChargePeriodStart": _instant(pl.col("day")),
        "ChargePeriodEnd": _instant(pl.col("day").dt.offset_by("1d")),
        "ChargeDescription": pl.format("{} of {}, {}", "meter", "model", "processing"),
        "ConsumedQuantity": pl.col("consumed"),
        "ConsumedUnit": pl.col("unit"),
        **dict.fromkeys(("InvoiceIssuerName", "ProviderName"), pl.col("provider")),
        "PublisherName": pl.col("publisher"),
        "ServiceName": pl.format("{} API", "provider"),
        "PricingQuantity": pl.col("quantity"),
        "PricingUnit": pl.col("price_unit"),
        "SkuId": pl.format("{}/{}", "sku", "kind"),
        "SkuMeter": pl.col("meter"),
        "SkuPriceDetails": details,
        "SkuPriceId": pl.format("{}/{}", "price_id", "kind"),
        "Tags": pl.when(pl.col("tenant").is_not_null()).then(tags),
        "x_Model": pl.col("model"),
        "x_Processing": pl.col("processing"),
        "x_TokenKind": pl.col("kind"),
        "x_PriceSource": pl.col("source"),
    }
    return [found[name].alias(name) for name in (*MANDATORY, *OPTIONAL, *OWN)]


def _instant(day: pl.Expr) -> pl.Expr:
    return day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
