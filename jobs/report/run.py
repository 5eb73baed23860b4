"""The page of a run: what the night did, what it cost, and what another alpha would have cost."""

from jobs.report import run_parts as parts
from jobs.report.charts import Point
from jobs.report.dial import Dial, Stop, Tile
from jobs.report.environment import render, script
from jobs.report.numbers import modelled, number, observed
from jobs.report.palette import DARK, LIGHT, css
from jobs.report.phrases import moment, share
from jobs.report.sweep_dial import make_dial
from jobs.report.sweep_view import (
    RAN,
    SweepView,
    cost_plate,
    curve_tables,
    exchange_plate,
    group_table,
    score_plate,
    win_rate_plate,
)
from jobs.report.views import Plate, Table, Words
from schemas.run_report import RunReport

AS_IT_RAN = "as it ran"


def run_page(report: RunReport) -> str:
    """Return the self-contained HTML page of a run.

    The same report gives the same page. It holds the report itself as JSON (`#report`), which its one script reads when
    the slider moves; every number of the report that is shown carries its JSON pointer in `data-json`. All text of the
    report is untrusted.
    """
    view = _view(report)
    return render(
        "run.html.j2",
        report=report,
        report_json=report.model_dump(mode="json"),
        script=None if view is None else script("numbers.js", "slider.js"),
        created=moment(report.created_at),
        times=parts.times(report),
        colours={"light": css(LIGHT), "dark": css(DARK)},
        verdict=_verdict(report),
        flow=parts.flow_plate(report),
        errors=parts.errors_table(report),
        routes=parts.routes_table(report),
        groups=parts.groups_table(report),
        time=parts.time_plate(report),
        bill=parts.bill(report),
        no_curve=parts.no_curve(report),
        unpriced=parts.unpriced_table(report),
        models=parts.models(report),
        cut=parts.cut(report),
        files=parts.provenance_tables(report),
        dial=None if view is None else _dial(report, view),
        plates=_plates(report, view),
        curve=None if view is None else curve_tables(view, _stops(report)),
        by_group=None if view is None else _by_group(report, view),
        number=number,
    )


def _view(report: RunReport) -> SweepView | None:
    """The curve, at the point where the run was cut or the one nearest to it."""
    if report.sweep is None or not report.sweep.points:
        return None
    points = report.sweep.points
    at = report.at_run
    if at is None or at >= len(points):
        strong = report.compared_strong
        at = min(range(len(points)), key=lambda k: abs(points[k].n_strong - strong))
    return SweepView(report.sweep, ("sweep",), at)


def _stops(report: RunReport) -> list[Stop]:
    return [] if report.at_run is None else [Stop(AS_IT_RAN, report.at_run)]


def _dial(report: RunReport, view: SweepView) -> Dial:
    ends = [Stop("all weak", 0), Stop("all strong", len(view.sweep.points) - 1)]
    paid = observed(report.compared_usd, "money", "compared_usd")
    return make_dial(view, [*_stops(report), *ends], paid, calls="queries")


def _plates(report: RunReport, view: SweepView | None) -> list[Plate]:
    if view is None:
        return [win_rate_plate(report.win_rates, ("win_rates",))] if any(report.win_rates.counts) else []
    stops, ran = _stops(report), None
    if not stops and report.compared:
        paid = float(report.compared_usd)
        ran = Point(RAN, report.compared_strong / report.compared, paid, paid, paid, AS_IT_RAN)
    return [cost_plate(view, paid=None, stops=stops, ran=ran), score_plate(view), exchange_plate(view, stops=stops)]


def _by_group(report: RunReport, view: SweepView) -> Table | None:
    return group_table(view, label=" / ".join(report.group_columns), none=parts.NO_VALUE, calls="queries")


def _verdict(report: RunReport) -> list[Tile]:
    rows, totals, split = report.manifest.rows, report.manifest.totals, report.manifest.split
    place, path = ("manifest", "rows"), ("manifest", "totals")
    answered = rows["ok"] + rows["truncated"]
    cost = observed(totals.cost_usd, "money", *path, "cost_usd")
    unpriced: Words = [", ", observed(totals.unpriced_rows, "count", *path, "unpriced_rows"), " answers unpriced"]
    saved = modelled(totals.saved_vs_strong_usd, "about", *path, "saved_vs_strong_usd")
    ends: Words = [
        modelled(totals.saved_share, "percent", *path, "saved_share"), " of ",
        modelled(totals.all_strong_usd, "about", *path, "all_strong_usd"), "; all weak ",
        modelled(totals.all_weak_usd, "about", *path, "all_weak_usd"),
    ]  # fmt: skip
    return [
        Tile(
            "answered", [share(answered, rows["published"])],
            ["of ", observed(rows["published"], "count", *place, "published"), " queries, ",
             observed(rows["truncated"], "count", *place, "truncated"), " of them truncated; ",
             observed(rows["failed"], "count", *place, "failed"), " failed, ",
             observed(rows["unsent"], "count", *place, "unsent"), " unsent, ",
             observed(rows["rejected"], "count", *place, "rejected"), " rows rejected"], "observed",
        ),
        Tile(
            "was paid", [cost],
            ["in ", observed(totals.attempts, "count", *path, "attempts"), " calls",
             *(unpriced if totals.unpriced_rows else [])], "observed",
        ),
        Tile(
            "saved against all strong", [saved], [parts.no_curve(report)] if totals.all_strong_usd is None else ends,
            "modelled",
        ),
        Tile(
            "strong share", [number(split.n_strong / split.n if split.n else None, "share")],
            [observed(split.n_strong, "count", "manifest", "split", "n_strong"), " queries; ", *parts.cut(report)],
            "observed",
        ),
    ]  # fmt: skip
