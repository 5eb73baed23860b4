import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.audit_books import Books
from schemas.audit import Spend
from tests.audit_frames import booked, call_log

START = datetime(2026, 10, 1, tzinfo=UTC)
tokens = st.none() | st.integers(-1, 5_000)
calls = st.fixed_dictionaries(
    {
        "call_id": st.sampled_from([None, "a", "b", "c", "d"]),
        "called_at": st.sampled_from([None, *(START + timedelta(hours=7 * n) for n in range(6))]),
        "tenant": st.sampled_from([None, "x", "y"]),
        "provider": st.sampled_from([None, "openai"]),
        "model": st.sampled_from([None, "small", "big", "mystery"]),
        "processing": st.sampled_from([None, "default", "batch"]),
        "input_tokens": tokens,
        "cached_tokens": st.none() | st.integers(0, 100),
        "output_tokens": tokens,
        "reasoning_tokens": st.sampled_from([None, 0, 1]),
        "logged_usd": st.none() | st.decimals(0, 1, places=12),
        "billed": st.booleans(),
        "outcome": st.sampled_from(["ok", "failed"]),
        "error_code": st.sampled_from([None, "429"]),
        "attempts": st.none() | st.integers(0, 4),
        "prompt": st.sampled_from([None, "", "hello 1", "hello 2", "other"]),
    }
)
logs = st.lists(calls, max_size=25)
few = settings(deadline=None, max_examples=25)


def books(rows: list[dict[str, Any]], *, part_rows: int = 100, **defaults: Any) -> Books:
    with TemporaryDirectory() as folder:
        return booked(call_log(*rows, **defaults), Path(folder), part_rows=part_rows)


@few
@given(rows=logs, part_rows=st.integers(1, 30))
def test_the_size_of_parts_changes_nothing(rows: list[dict[str, Any]], part_rows: int) -> None:
    one, other = books(rows), books(rows, part_rows=part_rows)
    assert one.reconciliation == other.reconciliation
    assert one.paid == other.paid
    assert one.daily.equals(other.daily)
    assert one.hourly.equals(other.hourly)


@few
@given(rows=logs)
def test_every_dimension_adds_up_to_the_total(rows: list[dict[str, Any]]) -> None:
    found = books(rows)
    paid, counts = found.paid, found.reconciliation.rows
    days = [day.spend for day in paid.days]
    for groups in (days, paid.tenants, paid.models, paid.providers, paid.tiers):
        for name in set(Spend.model_fields) - {"key"}:
            assert sum(getattr(group, name) for group in groups) == getattr(paid.total, name)
    for day in paid.days:
        assert sum(day.groups) == day.spend.cost_usd
    for tenant, costs in zip(paid.tenants, zip(*(day.groups for day in paid.days), strict=True), strict=True):
        assert sum(costs) == tenant.cost_usd
    assert sum(model.calls for model in found.reconciliation.models) == counts.kept == paid.total.calls
    assert sum(item.calls for item in found.reconciliation.unpriced) == counts.unpriced == paid.total.unpriced_calls
    assert sum(error.calls for error in paid.waste.errors) == counts.failed == paid.total.failed_calls
    assert sum(group.calls for group in paid.prompt_groups) == counts.kept - counts.missing_prompts
    assert found.hourly["calls"].sum() == counts.kept


@few
@given(rows=logs, part_rows=st.integers(1, 30))
def test_every_row_is_kept_rejected_or_duplicated(rows: list[dict[str, Any]], part_rows: int) -> None:
    counts = books(rows, part_rows=part_rows).reconciliation.rows
    assert counts.read == len(rows) == counts.kept + counts.rejected + counts.duplicated
    identity = ("call_id", "called_at", "model", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    # The rules and what tells calls apart, in plain Python.
    good = [
        tuple(row[name] for name in identity)
        for row in rows
        if row["called_at"] and -1 not in (row["input_tokens"], row["output_tokens"])
    ]
    named = [row for row in good if row[0] is not None]
    ids = [row[0] for row in set(named)]
    assert counts.rejected == len(rows) - len(good)
    assert counts.null_ids == len(good) - len(named)
    assert counts.duplicated == len(named) - len(set(named))
    assert counts.reused_ids == sum(ids.count(name) > 1 for name in ids)


@few
@given(rows=logs, seed=st.integers(0, 2**32))
def test_the_order_of_rows_changes_no_total(rows: list[dict[str, Any]], seed: int) -> None:
    # What a duplicate says beside its identity depends on which is the first; ids of their own leave that out.
    own = [row | {"call_id": None if row["call_id"] is None else f"{n}"} for n, row in enumerate(rows)]
    shuffled = random.Random(seed).sample(own, len(own))
    one, other = books(own), books(shuffled, part_rows=3)
    assert one.paid == other.paid
    assert one.reconciliation == other.reconciliation


@few
@given(rows=st.lists(calls, min_size=1, max_size=15), picks=st.lists(st.integers(0, 10**6), max_size=8), data=st.data())
def test_injected_duplicates_change_their_count_and_nothing_else(
    rows: list[dict[str, Any]], picks: list[int], data: st.DataObject
) -> None:
    good = [
        row | {"call_id": f"id-{n}", "called_at": row["called_at"] or START, "input_tokens": 5, "output_tokens": 5}
        for n, row in enumerate(rows)
    ]
    log = list(good)
    for pick in picks:
        copy = good[pick % len(good)]
        place = data.draw(st.integers(log.index(copy) + 1, len(log)))
        log.insert(place, copy)
    clean, injected = books(good), books(log, part_rows=4)
    assert injected.reconciliation.rows.duplicated == clean.reconciliation.rows.duplicated + len(picks)
    assert injected.reconciliation.rows.read == clean.reconciliation.rows.read + len(picks)
    logged = sum((good[pick % len(good)]["logged_usd"] or Decimal(0) for pick in picks), Decimal(0))
    assert injected.paid.waste.duplicated_logged_usd == logged
    unchanged = injected.paid.model_copy(
        update={"waste": injected.paid.waste.model_copy(update={"duplicated_logged_usd": Decimal(0)})}
    )
    assert unchanged == clean.paid
    assert injected.daily.equals(clean.daily)
