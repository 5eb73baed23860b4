"""From the name that a response gave to the prices that may hold for it: once per distinct name, never per row."""

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

import polars as pl
from genai_prices.data import providers as bundled_providers
from genai_prices.data_snapshot import DataSnapshot

from routing.prices import OVERRIDE
from schemas.billing import ResolvedNames

NAME = ("provider", "base_url", "model")
"""The columns that name who served a call."""

OVERRIDE_HERE, OVERRIDE_ANYWHERE, SNAPSHOT = range(3)
"""Ranks of candidates: an override for this provider, an override for whoever serves the model, the snapshot."""

_OWNER = {id(model): provider.id for provider in bundled_providers for model in provider.models}
_Candidate = tuple[int, str | None, str | None, bool]


class _Match(NamedTuple):
    """What genai-prices makes of a served name; nulls where it makes nothing of it."""

    provider: str | None
    owner: str | None
    model: str | None


def served_names(usage: pl.DataFrame) -> pl.DataFrame:
    """USAGE -> its distinct (provider, base_url, model)."""
    return usage.select(pl.col(NAME).cast(pl.String)).unique(maintain_order=True)


def resolve_models(names: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    """Distinct names x PRICES -> RESOLVED: the candidate prices of each name, best rank first.

    Overrides match the exact name. Everything else is matched by genai-prices itself: within the provider that
    `provider` or else `base_url` tells, or by the name alone where neither is known. A loopback URL is no provider.
    A name that nothing matches has one row with nulls.

    Args:
        names: Columns `provider`, `base_url`, `model` (see `served_names`).
        prices: The PRICES whose overrides count.
    """
    overrides = set(prices.filter(source=OVERRIDE).select("provider", "model").unique().iter_rows())
    matcher = DataSnapshot(providers=bundled_providers, from_auto_update=False)
    rows = [
        (*name, *candidate)
        for name in served_names(names).iter_rows()
        for candidate in _candidates(name, _match(matcher, *name), overrides)
    ]
    return ResolvedNames.validate(pl.DataFrame(rows, schema=ResolvedNames.create_empty().schema, orient="row"))


def _candidates(
    name: tuple[str | None, ...], match: _Match, overrides: set[tuple[str | None, ...]]
) -> list[_Candidate]:
    provider, _, model = name
    found: list[_Candidate] = []
    # dict.fromkeys: each provider name once, the one written in the log first
    here = [who for who in dict.fromkeys((provider, match.provider)) if who and (who, model) in overrides]
    if here:
        found.append((OVERRIDE_HERE, here[0], model, False))
    if (None, model) in overrides:
        found.append((OVERRIDE_ANYWHERE, None, model, False))
    if match.model is not None or not found:
        found.append((SNAPSHOT, match.owner, match.model, match.owner != match.provider))
    return found


def _match(matcher: DataSnapshot, provider: str | None, base_url: str | None, model: str | None) -> _Match:
    url = None if provider or base_url is None or _is_loopback(base_url) else base_url
    try:
        host, info = matcher.find_provider_model(model or "", None, provider, url)
        return _Match(host.id, _OWNER[id(info)], info.id)
    except LookupError:
        pass  # the provider may still be known, which decides whether an override holds here
    try:
        host = matcher.find_provider(model, provider, url)
    except LookupError:
        return _Match(None, None, None)
    return _Match(host.id, host.id, None)


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
