"""Days of a long log become bars that can be seen, and lose nothing on the way."""

import json
from datetime import date, timedelta
from decimal import Decimal

import pytest

from jobs.report.audit import audit_page
from jobs.report.day_bins import BINS, MOST_BARS, binned
from schemas import audit as a
from tests.audit_reports import small_report
from tests.pages import Element, parsed
from tests.report_pages import check_numbers

BEGIN = date(2021, 1, 1)  # a Friday


def days(offsets: list[int]) -> list[a.DaySpend]:
    spend = small_report().paid.total
    return [
        a.DaySpend(
            day=BEGIN + timedelta(days=k), groups=[Decimal(n), Decimal(2 * n)],
            spend=spend.model_copy(update={"calls": n, "cost_usd": Decimal(3 * n)}),
        )
        for n, k in enumerate(offsets, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "name"),
    [(1, "day"), (200, "day"), (201, "week"), (1_400, "week"), (1_401, "month"), (5_600, "month"), (5_601, "year")],
)
def test_bars_are_few_enough_to_be_seen(last: int, name: str) -> None:
    unit, found = binned(days([0, last]))
    assert unit.name == name
    assert (found[-1].day - found[0].day) / unit.width <= MOST_BARS + 2


def test_bars_are_counted_over_time_and_not_over_days_with_calls() -> None:
    assert binned(days([0, 1, 2, 2_100]))[0].name == "month"
    assert binned(days([0, 2_900_000]))[0].name == "year"


def test_nothing_is_lost() -> None:
    before = days([0, 2, 3, 9, 250])
    unit, found = binned(before)
    assert unit.name == "week"
    assert [one.day for one in found] == [date(2020, 12, 28), date(2021, 1, 4), date(2021, 9, 6)]
    assert [one.spend.calls for one in found] == [1 + 2, 3 + 4, 5]
    assert [one.spend.cost_usd for one in found] == [Decimal(9), Decimal(21), Decimal(15)]
    assert [one.groups for one in found] == [[3, 6], [7, 14], [5, 10]]
    for field in a.Spend.model_fields.keys() - {"key"}:
        assert sum(getattr(one.spend, field) for one in found) == sum(getattr(one.spend, field) for one in before)


def test_a_bar_begins_where_its_days_do() -> None:
    day = date(2024, 2, 29)
    assert [one.begin(day) for one in BINS] == [day, date(2024, 2, 26), date(2024, 2, 1), date(2024, 1, 1)]
    assert [one.begin(date.min) for one in BINS] == [date.min] * 4


def page(found: list[a.DaySpend]) -> Element:
    tenants = [small_report().paid.total.model_copy(update={"key": key}) for key in ("a", "b")]
    paid = small_report().paid.model_copy(update={"days": found, "tenants": tenants})
    report = small_report(paid=paid)
    read = parsed(audit_page(report))
    check_numbers(json.loads(report.model_dump_json()), read)
    return read


def test_a_log_of_years_on_a_page() -> None:
    read = page(days(list(range(2_100))))
    (figure,) = read.all("figure")
    assert figure.one("h3").words == "Cost by month"
    assert len(figure.all("rect", class_="hover")) == 70
    assert figure.all("rect", class_="hover")[0].one("title").text.startswith("Jan 2021: $")
    assert "dollars a month" in figure.words
    rows = figure.one("tbody").all("tr")
    assert [len(rows), rows[0].one("th").words, rows[-1].one("th").words] == [70, "2021-01", "2026-10"]
    assert rows[0].all("td")[0].words == f"${3 * sum(range(1, 32)):,}.00"
    assert not [data for data in figure.all("data") if "data-json" in data.attributes]
    tenants = next(table for table in read.all("table") if "What was paid by tenant" in table.one("caption").words)
    assert "by month" in tenants.one("thead").words


def test_a_log_of_half_a_year_goes_by_days() -> None:
    (figure,) = page(days(list(range(183)))).all("figure")
    assert figure.one("h3").words == "Cost by day"
    assert len(figure.one("tbody").all("tr")) == 183
    assert figure.all("data")[0].attributes["data-json"] == "/paid/days/0/spend/cost_usd"
