"""RUN_DIR -> RunReport: every figure against one that is added up row by row, and the curve against brute force."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.run_report import MOST_GROUPS, MOST_SLICES, open_run, run_report
from jobs.run_sweep import Compared, Doubt, GroupOf, doubt, sweep_run
from routing.errors import DataError, InputMissingError, TryLaterError, UsageError
from schemas.run_report import RunReport
from tests.run_reports import NOW, START, STRONG, WEAK, manifest, table, write_run

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return table()


@pytest.fixture(scope="module")
def rows(frame: pl.DataFrame) -> Rows:
    return frame.to_dicts()


@pytest.fixture(scope="module")
def report(frame: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    run = write_run(tmp_path_factory.mktemp("night"), frame)
    return run_report(run, groups=["tenant"], now=NOW)


def compared(rows: Rows) -> Rows:
    return [row for row in rows if None not in (row["cost_usd"], row["strong_cost_usd"], row["weak_cost_usd"])]


def test_routes_to_outcomes(report: RunReport, rows: Rows) -> None:
    assert {(f.route, f.status): f.queries for f in report.flows} == {
        key: sum((row["route"], row["status"]) == key for row in rows)
        for key in {(row["route"], row["status"]) for row in rows}
    }
    assert [flow.route for flow in report.flows] == sorted(flow.route for flow in report.flows)
    assert sum(flow.queries for flow in report.flows) == 200


def test_errors_by_class(report: RunReport, rows: Rows) -> None:
    assert {(e.route, e.error_code): (e.queries, e.attempts) for e in report.errors} == {
        key: (
            len(found := [r for r in rows if (r["route"], r["error_code"]) == key]),
            sum(r["attempts"] for r in found),
        )
        for key in {(row["route"], row["error_code"]) for row in rows if row["error_code"]}
    }
    counts = [error.queries for error in report.errors]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("side", ["strong", "weak"])
def test_what_a_model_did_and_cost(report: RunReport, rows: Rows, side: str) -> None:
    bill = next(route for route in report.routes if route.route == side)
    mine = [row for row in rows if row["route"] == side]
    answers = [row for row in mine if row["answer"]]
    assert (bill.model, bill.served_models) == (mine[0]["model"], [f"{mine[0]['model']}-2026"])
    assert (bill.queries, bill.answered, bill.attempts) == (len(mine), len(answers), sum(r["attempts"] for r in mine))
    assert bill.unpriced == sum(row["unpriced_reason"] is not None for row in mine)
    assert bill.input_tokens == sum(row["input_tokens"] for row in answers)
    assert bill.output_tokens == sum(row["output_tokens"] for row in answers)
    assert bill.mean_output_tokens == pytest.approx(bill.output_tokens / len(answers))
    assert bill.latency_p50_s == pytest.approx(np.median([row["latency_s"] for row in answers]))
    assert bill.latency_p95_s == pytest.approx(np.quantile([row["latency_s"] for row in answers], 0.95))
    assert bill.cost_usd == sum((row["cost_usd"] for row in mine if row["cost_usd"] is not None), Decimal(0))


def test_groups(report: RunReport, rows: Rows) -> None:
    assert {group.group for group in report.groups} == {"acme", "bolt", "cargo", None}
    costs = [group.cost_usd for group in report.groups]
    assert costs == sorted(costs, reverse=True)
    assert report.sweep is not None
    for group, curve in zip(report.groups, report.sweep.groups, strict=True):
        mine = [row for row in rows if row["tenant"] == group.group]
        both = compared(mine)
        assert (group.queries, group.strong) == (len(mine), sum(row["route"] == "strong" for row in mine))
        assert group.failed == sum(row["status"] == "failed" for row in mine)
        assert group.unpriced == sum(row["unpriced_reason"] is not None for row in mine)
        assert group.cost_usd == sum((row["cost_usd"] or Decimal(0) for row in mine), Decimal(0))
        assert (curve.group, curve.calls, curve.routed_calls) == (group.group, len(mine), len(both))
        assert curve.paid_usd == float(group.cost_usd)
        assert curve.routed_paid_usd == pytest.approx(float(sum(row["cost_usd"] for row in both)))
        assert curve.all_strong_usd == pytest.approx(float(sum(row["strong_cost_usd"] for row in both)))


def test_slices_hold_every_answer(report: RunReport, rows: Rows) -> None:
    answered = [row for row in rows if row["answered_at"]]
    assert sum(s.queries for s in report.slices) == len(answered)
    for side in ("strong", "weak"):
        paid = sum((row["cost_usd"] or Decimal(0) for row in answered if row["route"] == side), Decimal(0))
        assert sum((getattr(s, f"{side}_usd") for s in report.slices), Decimal(0)) == paid
    assert report.slice_s == 10
    width = timedelta(seconds=report.slice_s)
    assert [s.start for s in report.slices] == [START + k * width for k in range(len(report.slices))]
    assert len(report.slices) <= MOST_SLICES


@pytest.mark.parametrize(
    ("span", "width_s"), [(timedelta(0), 1), (timedelta(hours=7), 300), (timedelta(days=400), 432_000)]
)
def test_slices_of_any_night(frame: pl.DataFrame, tmp_path: Path, span: timedelta, width_s: int) -> None:
    """A resplit publishes answers of months before."""
    spread = [START + span * (k / 199) for k in range(200)]
    run = write_run(tmp_path, frame.with_columns(answered_at=pl.Series(spread, dtype=pl.Datetime("us", "UTC"))))
    found = run_report(run, now=NOW)
    assert (found.slice_s, sum(s.queries for s in found.slices)) == (width_s, 200)
    assert len(found.slices) <= MOST_SLICES


def test_nothing_was_answered(frame: pl.DataFrame, tmp_path: Path) -> None:
    nothing = frame.filter(status="failed")
    found = run_report(write_run(tmp_path, nothing), groups=["tenant"], now=NOW)
    assert (found.slices, found.slice_s, found.sweep, found.compared, found.at_run) == ([], None, None, 0, None)
    n = nothing.height
    assert found.notes == [f"Nothing was answered: {n} of {n} queries failed (timeout {n})."]
    assert sum(found.win_rates.counts) == n


def test_what_to_know_first(frame: pl.DataFrame, tmp_path: Path) -> None:
    """Failures by their code, answers that end early, and calls of which nobody knows how they ended."""
    totals = manifest(frame).totals.model_dump() | {"unknown_calls": 49}
    found = run_report(write_run(tmp_path, frame, totals=totals), now=NOW)
    rows = found.manifest.rows
    assert rows["truncated"]
    assert found.notes[:3] == [
        f"{rows['failed']} of 200 queries failed (timeout {rows['failed']}).",
        f"{rows['truncated']} of {rows['ok'] + rows['truncated']} answers were truncated at the token limit.",
        "49 calls were in flight when the run was killed. The provider may have billed them; they are in no sum.",
    ]


def test_answers_without_prices_have_no_curve(frame: pl.DataFrame, tmp_path: Path) -> None:
    unpriced = frame.filter(pl.col("unpriced_reason").is_not_null())
    found = run_report(write_run(tmp_path, unpriced), now=NOW)
    assert found.notes[-1].endswith("no answer has a price on both models. Add [[prices]] to the config.")


def test_the_curve_is_what_rows_would_have_cost(report: RunReport, rows: Rows) -> None:
    both = compared(rows)
    assert report.compared == len(both) < len(rows)
    assert report.compared_usd == sum(row["cost_usd"] for row in both)
    assert report.sweep is not None
    points = report.sweep.points
    assert len(points) >= 101
    assert (points[0].alpha, points[0].n_strong, points[-1].n_strong) == (None, 0, len(both))
    all_strong = sum(float(row["strong_cost_usd"]) for row in both)
    for k, point in enumerate(points):
        strong = [row for row in both if point.alpha is not None and row["win_rate"] >= point.alpha]
        weak = [row for row in both if row not in strong]
        cost = sum(float(r["strong_cost_usd"]) for r in strong) + sum(float(r["weak_cost_usd"]) for r in weak)
        kept = [r for r in strong if r["route"] == "strong"] + [r for r in weak if r["route"] == "weak"]
        assert point.n_strong == len(strong)
        assert point.strong_share == pytest.approx(len(strong) / len(both))
        assert point.cost_usd.value == pytest.approx(cost)
        assert point.observed_usd == pytest.approx(sum(float(r["cost_usd"]) for r in kept))
        assert point.saving_usd.value == pytest.approx(all_strong - cost, abs=1e-8)
        assert point.saving_share.value == pytest.approx(1 - cost / all_strong, abs=1e-8)
        wins = sum(r["win_rate"] for r in strong) + sum(1 - r["win_rate"] for r in weak)
        assert point.expected_wins == pytest.approx(wins / len(both))
        for group in report.sweep.groups:
            mine = [r for r in both if r["tenant"] == group.group]
            up = [r for r in mine if r in strong]
            down = sum(float(r["weak_cost_usd"]) for r in mine if r not in up)
            assert group.cost_usd[k] == pytest.approx(sum(float(r["strong_cost_usd"]) for r in up) + down)
            assert group.strong_share[k] == pytest.approx(len(up) / len(mine))
    assert report.sweep.histogram.counts == np.histogram([r["win_rate"] for r in both], 50, (0, 1))[0].tolist()


def test_the_curve_passes_through_the_run(report: RunReport) -> None:
    """Where the table was really cut nothing is modelled."""
    assert report.sweep is not None
    assert report.at_run is not None
    point = report.sweep.points[report.at_run]
    assert point.alpha == 0.6
    paid = float(report.compared_usd)
    assert (point.cost_usd.low, point.cost_usd.value, point.cost_usd.high) == pytest.approx((paid, paid, paid))
    assert point.observed_usd == pytest.approx(paid)
    assert point.n_strong == report.compared_strong
    assert all(p.cost_usd.low <= p.cost_usd.value <= p.cost_usd.high for p in report.sweep.points)
    assert all(p.observed_usd <= p.cost_usd.low + 1e-9 for p in report.sweep.points)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"n_tied": 9, "n_tied_strong": 4, "tie_key_max": 77}, "4 of 9 queries at exactly alpha went strong"),
        ({"order": "gain_per_usd", "alpha": None, "min_gain_per_usd": 12.5}, "gain per extra dollar"),
    ],
)
def test_a_cut_that_no_alpha_makes(frame: pl.DataFrame, tmp_path: Path, split: dict[str, Any], told: str) -> None:
    before = run_report(write_run(tmp_path / "a", frame), now=NOW).manifest.split.model_dump()
    found = run_report(write_run(tmp_path / "b", frame, split=before | split), now=NOW)
    assert found.at_run is None
    assert any(told in note for note in found.notes)


def test_hive_keys_are_columns(frame: pl.DataFrame, tmp_path: Path) -> None:
    plain = run_report(write_run(tmp_path / "a", frame), groups=["tenant", "day"], now=NOW)
    hive = run_report(write_run(tmp_path / "b", frame, by="tenant"), groups=["tenant", "day"], now=NOW)
    assert hive.groups == plain.groups
    assert {g.group for g in plain.groups} >= {"acme / 2026-11-22", "bolt / 2026-11-23", None}
    assert hive.sweep == plain.sweep


def test_a_model_without_a_price_has_no_curve(frame: pl.DataFrame, tmp_path: Path) -> None:
    run = write_run(tmp_path, frame)
    prices = pl.read_parquet(run / "prices.parquet")
    prices.filter(pl.col("model") != STRONG).write_parquet(run / "prices.parquet")
    assert run_report(run, now=NOW).sweep is None


def test_a_run_that_is_not_published(frame: pl.DataFrame, tmp_path: Path) -> None:
    run = write_run(tmp_path, frame)
    (run / "manifest.json").unlink()
    with pytest.raises(TryLaterError, match=r"not published yet; finish it with: nightroute resume .*run") as caught:
        open_run(run)
    assert caught.value.exit_code == 75


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"plan\.json cannot be read"):
        run_report(tmp_path, now=NOW)


def test_a_table_that_is_gone_or_another_ones(frame: pl.DataFrame, tmp_path: Path) -> None:
    run = write_run(tmp_path, frame)
    part, own = tmp_path / "answers" / "part-00000.parquet", tmp_path / "answers" / "_manifest.json"
    text = own.read_text(encoding="utf-8")
    own.write_text(text.replace("0123456789ab", "ba9876543210"), encoding="utf-8")
    with pytest.raises(DataError, match="holds the table of run ba9876543210"):
        run_report(run, now=NOW)
    own.write_text(text, encoding="utf-8")
    part.unlink()
    with pytest.raises(InputMissingError, match="lacks part-00000"):
        run_report(run, now=NOW)
    own.unlink()
    with pytest.raises(InputMissingError, match="publish it again with: nightroute resume"):
        run_report(run, now=NOW)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["tenat"], "did you mean 'tenant'"),
        (["xyzzy"], r"no column of the published table\? It has"),
        (["things"], "groups need plain values"),
        (["tenant", "number"], f"tells 1,200 groups apart; a page is readable up to {MOST_GROUPS:,}"),
    ],
)
def test_groups_that_make_no_table(tmp_path: Path, groups: list[str], message: str) -> None:
    frame = table(1_200).with_columns(things=pl.lit([1, 2]), number=pl.int_range(pl.len()))
    with pytest.raises(UsageError, match=message):
        run_report(write_run(tmp_path, frame), groups=groups, now=NOW)


def test_intervals_hold_what_would_have_been_paid() -> None:
    """Nights whose other half is known: the interval around the modelled cost holds it about 19 times in 20."""
    random = np.random.default_rng(20261122)
    held = {"cost": 0, "saving": 0, "share": 0}
    nights, n = 200, 400
    for _ in range(nights):
        win_rate = random.random(n)
        went = random.random(n) < 0.5  # routed at random: both halves are fair samples of the answers
        tokens = {"strong": random.gamma(2, 150, n), "weak": random.gamma(2, 80, n)}
        rate = {"strong": 8.0, "weak": 0.4}
        true = {side: tokens[side] * rate[side] / 1e6 for side in rate}
        on = {"strong": went, "weak": ~went}
        seen = {side: np.where(on[side], true[side], true[side][on[side]].mean()) for side in rate}
        doubts = tuple(doubt(tokens[side][on[side]], rate[side], assumed_tokens=1) for side in ("strong", "weak"))
        found, _ = sweep_run(
            Compared(win_rate, went, seen["strong"], seen["weak"]), (doubts[0], doubts[1]), models=("s", "w"),
            alpha=None, wanted=11,
        )  # fmt: skip
        point = found.points[4]
        assert point.alpha is not None
        cost = np.where(win_rate >= point.alpha, true["strong"], true["weak"]).sum()
        strong = true["strong"].sum()
        for name, interval, value in (
            ("cost", point.cost_usd, cost),
            ("saving", point.saving_usd, strong - cost),
            ("share", point.saving_share, 1 - cost / strong),
        ):
            held[name] += interval.low <= value <= interval.high
    for name, count in held.items():
        assert 0.9 <= count / nights <= 0.99, (name, count)


def test_too_few_answers_are_an_assumption() -> None:
    """Twice the assumed length lies inside."""
    none = doubt(np.array([]), 8.0, assumed_tokens=200)
    assert none.scatter_usd == 0
    assert none.error_usd == pytest.approx(200 * 8e-6 / 1.96)
    assert doubt(np.array([100.0]), 8.0, assumed_tokens=200).error_usd == pytest.approx(100 * 8e-6 / 1.96)
    spread = doubt(np.array([100.0, 300.0]), 10.0, assumed_tokens=1)
    assert spread.scatter_usd == pytest.approx(np.std([100, 300], ddof=1) * 1e-5)
    assert spread.error_usd == pytest.approx(spread.scatter_usd / 2**0.5)


def test_the_tier_of_the_replies_does_not_change_what_is_modelled(frame: pl.DataFrame, tmp_path: Path) -> None:
    """What moves is priced as standard (test_account), so the intervals around it have the standard rate too."""
    found = []
    for tier in ("default", "batch"):
        (tmp_path / tier).mkdir()
        run = write_run(tmp_path / tier, frame.with_columns(service_tier=pl.lit(tier)))
        found.append(run_report(run, now=NOW).sweep)
    assert found[0] == found[1]
    assert found[0] is not None
    cost = found[0].points[0].cost_usd
    assert cost.low < cost.value < cost.high


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.35, 0.7, 0.9])
def test_any_alpha_is_a_point(alpha: float) -> None:
    """Between two win rates, at one of them, below and above all."""
    rates = np.array([0.1, 0.3, 0.3, 0.5, 0.7])
    usd = np.ones(5)
    found, at = sweep_run(
        Compared(rates, rates >= alpha, usd * 2, usd, np.zeros(5, dtype=np.intp)), (Doubt(0, 0), Doubt(0, 0)),
        models=(STRONG, WEAK), alpha=alpha, groups=[GroupOf("g", 5, 7.0)], wanted=2,
    )  # fmt: skip
    assert at is not None
    n = int((rates >= alpha).sum())
    assert found.points[at].n_strong == n
    assert found.points[at].alpha == (None if n == 0 else alpha)
    assert [p.n_strong for p in found.points] == sorted({0, n, 5})
    assert found.groups[0].cost_usd[at] == 5 + n
