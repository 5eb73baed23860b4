from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from routing.audit.changes import model_changes
from routing.prices import price_snapshot
from schemas.audit import ModelChange, PriceChange
from schemas.billing import PriceOverride
from schemas.daily import Daily
from tests.audit_frames import PRICES, booked, call_log

START = datetime(2026, 6, 1, tzinfo=UTC)
ONE, TEN = Decimal(1), Decimal(10)


def calls(model: str, days: range, a_day: int = 10, **row: Any) -> Iterator[dict[str, Any]]:
    """So many calls a day, a minute apart, from noon on."""
    for day in days:
        for n in range(a_day):
            called_at = START + timedelta(days=day, hours=12, minutes=n)
            yield {"model": model, "called_at": called_at} | row


def changes(folder: Path, *rows: Iterator[dict[str, Any]], prices: pl.DataFrame = PRICES) -> list[ModelChange]:
    log = call_log(*(row for group in rows for row in group))
    return booked(log, folder, part_rows=1_000, prices=prices).reconciliation.model_changes


def test_a_rename_is_found_with_its_moment_and_counts(tmp_path: Path) -> None:
    found = changes(tmp_path, calls("small", range(10)), calls("small-2", range(10, 25)), calls("other", range(25)))
    assert found == [
        ModelChange(
            provider=None,
            before="small",
            after="small-2",
            changed_at=START + timedelta(days=10, hours=12),
            calls_before=100,
            calls_after=150,
            same_price=False,  # small-2 has no price
        )
    ]


@pytest.mark.parametrize(("first_day", "found"), [(8, 0), (9, 1), (10, 1), (11, 0)])
def test_names_meet_within_a_day(tmp_path: Path, first_day: int, found: int) -> None:
    # The last call of `a` is on day 9 at 12:09; calls of a day begin at 12:00.
    assert len(changes(tmp_path, calls("a", range(10)), calls("b", range(first_day, 25)))) == found


def test_names_of_two_providers_are_two_models(tmp_path: Path) -> None:
    before, after = calls("a", range(10), provider="x"), calls("b", range(10, 20), provider="y")
    assert changes(tmp_path, before, after) == []


def test_a_model_that_goes_on_was_not_replaced(tmp_path: Path) -> None:
    assert changes(tmp_path, calls("a", range(20)), calls("b", range(10, 25))) == []
    assert changes(tmp_path, calls("a", range(10)), calls("b", range(5, 25))) == []


def test_a_trial_is_no_change(tmp_path: Path) -> None:
    assert changes(tmp_path, calls("a", range(10)), calls("b", range(10, 11), 19), calls("c", range(20))) == []
    assert len(changes(tmp_path, calls("a", range(10)), calls("b", range(10, 11), 20), calls("c", range(20)))) == 1
    # A log that ends soon after: two days are compared as two days.
    assert len(changes(tmp_path, calls("a", range(10)), calls("b", range(10, 12)))) == 1


def test_a_name_used_far_more_or_less_is_another_matter(tmp_path: Path) -> None:
    assert changes(tmp_path, calls("a", range(10), 50), calls("b", range(10, 20), 12)) == []
    assert len(changes(tmp_path, calls("a", range(10), 50), calls("b", range(10, 20), 13))) == 1


def test_a_name_ends_once_and_begins_once(tmp_path: Path) -> None:
    later = ({**row, "called_at": row["called_at"] + timedelta(hours=1)} for row in calls("c", range(10, 20)))
    found = changes(tmp_path, calls("a", range(10)), calls("b", range(10, 20)), later)
    assert [(change.before, change.after) for change in found] == [("a", "b")]


def test_renames_are_told_in_order_of_time(tmp_path: Path) -> None:
    found = changes(tmp_path, calls("b", range(10, 20)), calls("c", range(20, 30)), calls("a", range(10)))
    assert [(change.before, change.after) for change in found] == [("a", "b"), ("b", "c")]


def test_thousands_of_names_are_not_held_each_against_each(monkeypatch: pytest.MonkeyPatch) -> None:
    join, heights = pl.DataFrame.join, []

    def spied(*args: Any, **kwargs: Any) -> pl.DataFrame:
        found = join(*args, **kwargs)
        heights.append(found.height)
        return found

    names, days = 1_000, [START + timedelta(days=day) for day in range(0, 90, 30)]
    cell = dict.fromkeys(Daily.column_names()) | {"provider": "openai", "processing": "standard", "calls": 30}
    rows = [
        cell | {"day": day.date(), "model": f"tuned-{n}", "first_called_at": day, "last_called_at": day}
        for day in days
        for n in range(names)
    ]
    monkeypatch.setattr(pl.DataFrame, "join", spied)
    assert model_changes(pl.DataFrame(rows, schema=Daily.create_empty().schema), PRICES) == []
    assert max(heights) <= names


def test_of_many_that_begin_the_nearest_takes_over(tmp_path: Path) -> None:
    noon = START + timedelta(days=10, hours=12)
    began = [
        {"model": f"new-{minutes}", "called_at": noon + timedelta(days=day, minutes=minutes), "input_tokens": n}
        for minutes in (-10, -50, -30)
        for day in range(5)
        for n in range(10)
    ]
    [found] = changes(tmp_path, calls("old", range(10)), iter(began))
    assert (found.before, found.after, found.calls_before, found.calls_after) == ("old", "new--50", 100, 50)


@pytest.mark.parametrize(("output_rate", "same"), [(TEN, True), (Decimal("10.01"), False)])
def test_same_price_means_equal_rates(tmp_path: Path, output_rate: Decimal, *, same: bool) -> None:
    prices = price_snapshot(
        [
            PriceOverride(
                model="a",
                input_usd_per_mtok=ONE,
                output_usd_per_mtok=TEN,
                cached_input_usd_per_mtok=ONE,
                cache_write_1h_usd_per_mtok=ONE,
            ),
            # An equal rate that is left out is the same price.
            PriceOverride(model="b", input_usd_per_mtok=ONE, output_usd_per_mtok=output_rate),
        ]
    )
    [found] = changes(tmp_path, calls("a", range(10)), calls("b", range(10, 20)), prices=prices)
    assert found.same_price is same


# ---- prices

CHANGED = START + timedelta(days=10)
NEW = PriceOverride(model="m", input_usd_per_mtok=TEN, output_usd_per_mtok=TEN, valid_from=CHANGED)
OLD = PriceOverride(model="m", input_usd_per_mtok=ONE, output_usd_per_mtok=ONE, valid_to=CHANGED)


def price_changes(folder: Path, *rows: dict[str, Any], prices: pl.DataFrame) -> list[PriceChange]:
    log = call_log(*rows, input_tokens=1_000, output_tokens=0)
    return booked(log, folder, part_rows=16, prices=prices).reconciliation.price_changes


def test_a_price_change_is_found_with_its_stale_calls(tmp_path: Path) -> None:
    old, new = Decimal("0.001"), Decimal("0.01")
    rows = [
        *calls("m", range(8, 10), 3, logged_usd=old),  # 6 before
        *calls("m", range(10, 11), 3, logged_usd=new),
        *calls("m", range(11, 12), 4, logged_usd=old),  # stale
        *calls("m", range(12, 13), 2, logged_usd=old + Decimal("0.0000005")),  # stale, as a float would have it
        *calls("m", range(13, 14), 2, logged_usd=Decimal("0.005")),  # wrong, but not so
        *calls("m", range(14, 15), 2),
        *calls("m", range(15, 16), 2, logged_usd=old, billed=False),
        *calls("n", range(12), 2, logged_usd=old),
    ]
    assert price_changes(tmp_path, *rows, prices=price_snapshot([OLD, NEW])) == [
        PriceChange(
            provider=None,
            model="m",
            processing="standard",
            changed_at=CHANGED,
            before_price_id="override:m@start#standard>0",
            after_price_id="override:m@2026-06-11#standard>0",
            calls_before=6,
            calls_after=13,
            stale_calls=6,
            stale_usd=Decimal("-0.053999"),  # nine tenths of a cent each, less what floats added
        )
    ]


def test_a_price_of_the_snapshot_changes_too(tmp_path: Path) -> None:
    # o3 fell from $10 to $2 on 2025-06-10; the first instant is the new price's.
    edge = datetime(2025, 6, 10, tzinfo=UTC)
    rows = [{"model": "o3", "called_at": edge + timedelta(microseconds=shift)} for shift in (-2, -1, 0, 1, 2)]
    [found] = price_changes(tmp_path, *rows, prices=PRICES)
    assert (found.model, found.changed_at, found.calls_before, found.calls_after) == ("o3", edge, 2, 3)
    assert found.after_price_id.startswith("openai/o3@2025-06-10")


def test_one_price_for_all_time_does_not_change(tmp_path: Path) -> None:
    assert price_changes(tmp_path, *calls("m", range(20)), prices=price_snapshot([OLD])) == []


def test_the_same_rates_under_a_new_date_are_no_change(tmp_path: Path) -> None:
    again = NEW.model_copy(update={"input_usd_per_mtok": ONE, "output_usd_per_mtok": ONE})
    assert price_changes(tmp_path, *calls("m", range(20)), prices=price_snapshot([OLD, again])) == []


def test_two_changes_with_equal_rates_between(tmp_path: Path) -> None:
    days = [START + timedelta(days=day) for day in (5, 10, 15)]
    rates = [ONE, TEN, TEN, ONE]
    edges = zip([None, *days], [*days, None], rates, strict=True)
    dated = [
        PriceOverride(model="m", input_usd_per_mtok=rate, output_usd_per_mtok=ONE, valid_from=start, valid_to=end)
        for start, end, rate in edges
    ]
    found = price_changes(tmp_path, *calls("m", range(20), 2, logged_usd=Decimal("0.01")), prices=price_snapshot(dated))
    assert [(change.changed_at, change.calls_before, change.calls_after) for change in found] == [
        (days[0], 10, 20),
        (days[2], 20, 10),
    ]
    # The log says $0.01 all the time: right from the first change on, the old price from the second on.
    assert [change.stale_calls for change in found] == [0, 10]


def test_tiers_of_a_long_prompt_are_no_change_of_price(tmp_path: Path) -> None:
    # gemini-2.5-pro has another rate above 200,000 tokens.
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"model": "gemini-2.5-pro", "called_at": at + timedelta(days=n), "input_tokens": tokens}
        for n, tokens in enumerate((1_000, 300_000, 300_000, 1_000, 300_000))
    ]
    assert booked(call_log(*rows), tmp_path).reconciliation.price_changes == []


def test_batch_and_standard_are_two_prices(tmp_path: Path) -> None:
    half = OLD.model_copy(update={"valid_to": None, "batch_factor": Decimal("0.5")})
    rows = [*calls("m", range(5)), *calls("m", range(5, 10), processing="batch")]
    assert price_changes(tmp_path, *rows, prices=price_snapshot([half])) == []


def test_an_override_that_ends_is_a_change_when_it_ends(tmp_path: Path) -> None:
    ends = datetime(2026, 6, 11, tzinfo=UTC)
    cheap = PriceOverride(
        model="gpt-4o", input_usd_per_mtok=ONE, output_usd_per_mtok=ONE, valid_from=START, valid_to=ends
    )
    rows = calls("gpt-4o", range(8, 12), 2, logged_usd=Decimal("0.001"))
    [found] = price_changes(tmp_path, *rows, prices=price_snapshot([cheap]))
    assert (found.changed_at, found.calls_before, found.calls_after, found.stale_calls) == (ends, 4, 4, 4)


def test_two_endpoints_of_one_name_are_no_change(tmp_path: Path) -> None:
    prices = price_snapshot([NEW.model_copy(update={"valid_from": None, "provider": "openai"}), OLD])
    urls = ["https://api.openai.com/v1", "http://127.0.0.1:8000"]
    rows = [row | {"base_url": urls[n % 2]} for n, row in enumerate(calls("m", range(8), 2))]
    assert price_changes(tmp_path, *rows, prices=prices) == []
