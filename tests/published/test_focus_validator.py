"""Our FOCUS rows before focus-validator 2.2.1, the program of the FOCUS project: `make focus` installs it.

It reads currency codes by a path that starts from its own site-packages, so it is run there. It cannot judge rules that
need the provider's invoices, nor that an id stays the same over time: of 578 rules it calls 160 dynamic. One rule fails
for every file there is: InvoiceId-C-004-C wants each id null and InvoiceId-C-005-C each not null, and InvoiceId-C-003-C
is content with either. Its rules that price times quantity is the cost look at no row whose ChargeClass is null, which
are all of ours; tests/unit/audit/test_focus.py checks that.
"""

import os
import re
import subprocess
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from examples.log_traffic import TENANTS, prompt_pool
from examples.make_log import make_calls
from jobs.audit_exports import write_csv
from routing.audit.cube import daily, finish_daily, merge_daily
from routing.audit.focus import focus_rows
from routing.matching import resolve_models, served_names
from routing.prices import price_snapshot
from routing.pricing import price
from schemas.billing import PriceOverride
from schemas.call_log import CallLog

ROOT = Path(__file__).parents[2]
VALIDATOR = Path(os.environ.get("NIGHTROUTE_FOCUS_VALIDATOR", ROOT / ".venv-focus" / "bin" / "focus-validator"))

pytestmark = pytest.mark.skipif(
    not VALIDATOR.exists(),
    reason="needs focus-validator in an environment of its own: `make focus`, or set NIGHTROUTE_FOCUS_VALIDATOR",
)

APPLICABLE = (
    "ACCOUNT_NAMING_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED",
    "UNIT_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "TAGGING_SUPPORTED",
)
"""What providers of models support, which decides what must be there."""

NEVER_HOLDS = {"InvoiceId-C-005-C"}


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """FOCUS rows of the example traffic: four providers, a price change, a fee for requests, awkward tenants."""
    overrides = [
        PriceOverride(
            model="harbour-7b",
            input_usd_per_mtok=Decimal("0.123456"),
            output_usd_per_mtok=Decimal("0.2"),
            request_usd=Decimal("0.000001"),
        )
    ]
    prices = price_snapshot(overrides)
    calls = make_calls(3_000, 1, prompt_pool())
    log = calls.select(
        row="call",
        called_at="called_at",
        model="name",
        provider=pl.when(pl.col("name").str.starts_with("claude")).then(pl.lit("anthropic")),
        tenant=pl.when(pl.col("tenant") > 0).then(
            pl.Series([*TENANTS[:9], 'a "quoted", Zoë']).gather(calls["tenant"] % 10)
        ),
        input_tokens="input_tokens",
        cached_tokens="cached_tokens",
        cache_write_tokens="cache_write_tokens",
        output_tokens="output_tokens",
        reasoning_tokens="reasoning_tokens",
        billed=~pl.col("cache_hit"),
        outcome=pl.when("failed").then(pl.lit("failed")).otherwise(pl.lit("ok")),
    )
    full = pl.concat(
        [
            CallLog.create_empty(),
            log.cast(
                {
                    "row": pl.UInt64,
                    "outcome": CallLog.create_empty().schema["outcome"],
                    "called_at": pl.Datetime("us", "UTC"),
                }
            ),
        ],
        how="diagonal",
    )
    costed = price(full, prices, resolve_models(served_names(full), prices))
    return focus_rows(finish_daily(merge_daily(daily(costed))), prices, account="A LiteLLM proxy")


def broken_rules(file: Path) -> set[str]:
    """Run the validator; returns the rules that fail. It exits 0 whatever it finds."""
    site = next(VALIDATOR.parent.parent.glob("lib/python3*/site-packages"))
    command = [str(VALIDATOR), "--data-file", str(file), "--validate-version", "1.2", "--block-download"]
    done = subprocess.run(
        [*command, "--applicability-criteria", ",".join(APPLICABLE)],
        cwd=site,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    passed = re.findall(r"^\S+ (\S+): PASS", done.stdout, re.MULTILINE)
    assert len(passed) > 200, done.stdout[-2_000:]
    return set(re.findall(r"^\S+ (\S+): FAIL", done.stdout, re.MULTILINE))


def test_the_parquet_file_passes(rows: pl.DataFrame, tmp_path: Path) -> None:
    rows.write_parquet(tmp_path / "focus.parquet")
    assert broken_rules(tmp_path / "focus.parquet") == NEVER_HOLDS


def test_the_csv_file_passes(rows: pl.DataFrame, tmp_path: Path) -> None:
    write_csv(tmp_path / "focus.csv", rows, tmp_path / "staging")
    assert broken_rules(tmp_path / "focus.csv") == NEVER_HOLDS


def test_the_validator_would_see_it(rows: pl.DataFrame, tmp_path: Path) -> None:
    wrong = rows.with_columns(
        BilledCost=pl.when(pl.int_range(pl.len()) > 0).then("BilledCost"),
        BillingCurrency=pl.lit("Dollars"),
        ServiceCategory=pl.lit("Language Models"),
    ).drop("ProviderName")
    wrong.write_parquet(tmp_path / "wrong.parquet")
    expected = {"BilledCost-C-003-M", "BillingCurrency-C-003-M", "ServiceCategory-C-003-M", "CostAndUsage-D-038-M"}
    assert expected <= broken_rules(tmp_path / "wrong.parquet")
