"""A bad endpoint: refusals, errors, hangs and dropped connections, judged from the sandbox's journal.

The figures of a long bad night:

    PYTHONPATH=. python tests/e2e/test_faults.py --rows 300 --out out/faults
"""

import argparse
import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.e2e.harness import STRONG, WEAK, Job, example_queries, serving, write_job

BAD_NIGHT = (
    "faults = {rate_429 = 0.2, rate_500 = 0.05, rate_timeout = 0.02, rate_drop = 0.01, hang_s = 4.0, "
    "retry_after_s = [1.0, 3.0]}"
)
MODEL = "timeout_s = 2.0\nmax_in_flight = 16"
LATENCY = "default_model = {name = 'any', latency_s = 0.05}"
FAST_BACKOFF = "[dispatch]\nbackoff_initial_s = 0.05\nbackoff_max_s = 0.5"
SHARE = "strong_share = 0.3"
CROSSING_S = 0.5
"""A request that left its client before a refusal arrived there reaches the server within this time of it."""


@dataclass(frozen=True, slots=True)
class Storm:
    """How a night with faults went, from the journal."""

    rows: int
    answered: int
    requests: int
    refusals: int
    other_faults: int
    max_attempts: int
    attempts_per_row: float
    too_early: int
    """Attempts that came before the Retry-After of the attempt before them."""
    crossed: int
    """Requests that came while a Retry-After promised to their model stood, within `CROSSING_S` of the refusal."""
    knocked: int
    """Those that came later than that: the client knew, or should have."""
    longest_crossing_s: float
    before_refusals: int
    """Requests to the same model in the Retry-After times before the refusals, summed."""
    after_refusals: int
    """The same in the Retry-After times after them."""
    seconds: float


def early_attempts(requests: pl.DataFrame) -> int:
    """Attempts that came before the moment which the reply to the attempt before them promised."""
    promised = requests.drop_nulls("not_before_s").select("call", "not_before_s", attempt=pl.col("attempt") + 1)
    pairs = requests.select("call", "attempt", "received_s").join(promised, on=["call", "attempt"])
    assert pairs.height > 0
    return pairs.filter(pl.col("received_s") < pl.col("not_before_s")).height


def crossings(requests: pl.DataFrame) -> pl.Series:
    """Seconds from a refusal to each request that came while it stood; the latest refusal before the request counts."""
    refusals = requests.drop_nulls("not_before_s").select("model", refused_s="finished_s").sort("refused_s")
    early = requests.filter("early").select("model", "received_s").sort("received_s")
    joined = early.join_asof(refusals, left_on="received_s", right_on="refused_s", by="model", check_sortedness=False)
    return joined["received_s"] - joined["refused_s"]


def around_refusals(requests: pl.DataFrame) -> tuple[int, int]:
    """Requests to a refusing model in the Retry-After time before its refusals, and in the same time after them."""
    before = after = 0
    for (_,), of_model in requests.group_by("model"):
        came = np.sort(of_model["received_s"].to_numpy())
        refused = of_model.drop_nulls("retry_after_s")
        at, wait = refused["finished_s"].to_numpy(), refused["retry_after_s"].to_numpy()
        first, middle, last = (np.searchsorted(came, moment) for moment in (at - wait, at, at + wait))
        before += int((middle - first).sum())
        after += int((last - middle).sum())
    return before, after


def measure(job: Job, requests: pl.DataFrame) -> Storm:
    """Read a night's storm from its journal."""
    table = job.published()
    crossing = crossings(requests)
    before, after = around_refusals(requests)
    refusals = requests.filter(status=429).height
    return Storm(
        rows=table.height,
        answered=table.filter(status="ok").height,
        requests=requests.height,
        refusals=refusals,
        other_faults=requests["fault"].drop_nulls().len() - refusals,
        max_attempts=int(str(requests["attempt"].max())),
        attempts_per_row=requests.height / table.height,
        too_early=early_attempts(requests),
        crossed=int((crossing <= CROSSING_S).sum()),
        knocked=int((crossing > CROSSING_S).sum()),
        longest_crossing_s=float(str(crossing.max() or 0.0)),
        before_refusals=before,
        after_refusals=after,
        seconds=float(str(requests["finished_s"].max())) - float(str(requests["received_s"].min())),
    )


def bad_night(folder: Path, rows: int, *, seed: int) -> tuple[Job, pl.DataFrame]:
    """Route a table against the bad endpoint; return the job and the requests it made."""
    with serving(folder / "sandbox", LATENCY, BAD_NIGHT, f"seed = {seed}") as server:
        job = write_job(
            folder / "job", example_queries(rows), server.base_url, split=SHARE, model=MODEL, extra=FAST_BACKOFF
        )
        job.succeed("run", timeout_s=600)
        return job, server.settled(timeout_s=20)


def check(storm: Storm) -> None:
    """No row without an answer, nobody too early, no more attempts than the faults make necessary."""
    assert storm.answered == storm.rows
    assert (storm.too_early, storm.knocked) == (0, 0), storm
    assert storm.max_attempts <= 20, storm
    # 28 % of the attempts fail: 1 / 0.72 = 1.39 attempts a row are needed, whatever the policy.
    assert storm.attempts_per_row < 2, storm


# Which requests fail depends on their ids, and these on the sandbox's port: every run of these tests is another draw.
def test_a_bad_night_ends_with_every_row_answered(tmp_path: Path) -> None:
    job, requests = bad_night(tmp_path, 30, seed=3)
    storm = measure(job, requests)
    assert storm.refusals > 0
    check(storm)
    table = job.published()
    assert table["attempts"].sum() == requests.height
    assert table["cost_usd"].sum() == Decimal(job.manifest()["totals"]["spent_usd"])


@pytest.mark.slow
def test_a_long_bad_night(tmp_path: Path) -> None:
    storm = measure(*bad_night(tmp_path, 300, seed=7))
    assert storm.refusals > 40
    check(storm)
    assert storm.after_refusals < storm.before_refusals, storm


def test_every_kind_of_bad_200_is_a_row_with_its_error_and_its_tokens(tmp_path: Path) -> None:
    prices = (
        "models = ["
        + ", ".join(
            f"{{name = '{name}', input_usd_per_mtok = {rates[0]}, output_usd_per_mtok = {rates[1]}}}"
            for name, rates in {STRONG: ("2.0", "8.0"), WEAK: ("0.1", "0.4")}.items()  # those of genai-prices
        )
        + "]"
    )
    faults = "faults = {rate_empty = 0.2, rate_malformed = 0.15, rate_content_filter = 0.2, rate_truncated_body = 0.1}"
    with serving(tmp_path / "sandbox", prices, faults, "seed = 5") as server:
        job = write_job(
            tmp_path / "job",
            example_queries(80),
            server.base_url,
            split=SHARE,
            model=MODEL,
            extra=FAST_BACKOFF + "\nmax_attempts = 10",
        )
        ended = job.carry_out("run")
        requests = server.requests()
    assert ended.exit_code == 1, ended.stderr  # done, but rows failed
    last = (
        requests.sort("attempt")
        .unique("call", keep="last")
        .select("call", "fault", "prompt_tokens", "completion_tokens", billed="cost_usd")
    )
    rows = job.published().join(call_ids(job), on="query_id", validate="1:1").join(last, on="call", validate="1:1")
    assert rows.height == 80

    codes = {"empty": "empty_response", "malformed": "malformed_response", "content_filter": "content_filter"}
    assert rows["fault"].drop_nulls().unique().sort().to_list() == sorted(codes)
    expected = pl.col("fault").replace_strict(codes, default=None)
    assert rows.select(pl.col("error_code").eq_missing(expected).all()).item()
    assert rows.select(((pl.col("status") == "failed") == pl.col("fault").is_not_null()).all()).item()

    read = rows.filter(pl.col("fault").ne_missing("malformed"))
    assert read["input_tokens"].equals(read["prompt_tokens"])
    assert read["output_tokens"].equals(read["completion_tokens"])
    assert read["cost_usd"].equals(read["billed"])
    # Nobody knows what an unreadable reply cost: unpriced, not free.
    unread = rows.filter(fault="malformed")
    assert unread["cost_usd"].null_count() == unread.height == job.manifest()["totals"]["unpriced_rows"] > 0
    # A body that broke off is asked for again: its tokens are lost, the row is not.
    broken = requests.filter(fault="truncated_body")
    assert rows.join(broken, on="call", how="semi")["attempts"].min() == 2


def call_ids(job: Job) -> pl.DataFrame:
    """query_id and the first half of its request id, from the ledger."""
    with closing(sqlite3.connect(job.run_dir / "ledger" / "ledger.sqlite")) as connection:
        rows = connection.execute("SELECT DISTINCT query_id, substr(call_key, 1, 32) FROM sends").fetchall()
    return pl.DataFrame(rows, schema=["query_id", "call"], orient="row")


def test_an_endpoint_that_always_fails_stops_the_run_and_a_resume_finishes_it(tmp_path: Path) -> None:
    with serving(tmp_path / "broken", "faults = {rate_500 = 1.0}") as server:
        job = write_job(
            tmp_path / "job",
            example_queries(100),
            server.base_url,
            split=SHARE,
            model="max_in_flight = 16",
            extra="[dispatch]\nbreaker_window = 20",
        )
        stopped = job.carry_out("run")
        failed = server.requests()
    assert stopped.exit_code == 75, stopped.stderr
    assert "of the last 20 attempts failed" in stopped.summary["error"]
    assert "server_error" in stopped.summary["error"]
    assert 20 <= failed.height <= 20 + 2 * 2 * 16  # the window, and what was in flight on both models
    with serving(tmp_path / "mended", args=["--port", str(server.port)]) as mended:
        job.succeed("resume")
        answered = mended.requests()
    assert job.published()["status"].unique().to_list() == ["ok"]
    assert answered.height == 100
    assert job.manifest()["totals"]["unknown_calls"] == 0


def test_a_refused_key_stops_the_run_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "sandbox", "require_key = true") as server:
        job = write_job(
            tmp_path / "job",
            example_queries(100),
            server.base_url,
            split=SHARE,
            model="max_in_flight = 4\nheaders = { Authorization = 'none' }",
        )
        stopped = job.carry_out("run")
        assert stopped.exit_code == 78, stopped.stderr
        assert "authentication (HTTP 401)" in stopped.summary["error"]
        assert server.requests().height <= 2 * 4
        assert not job.output.exists()


@pytest.mark.parametrize("limit", ["rpm = 1200", "tpm = 180000"])
def test_limits_of_the_provider_are_kept_without_a_refusal(tmp_path: Path, limit: str) -> None:
    rows = 100
    with serving(tmp_path / "sandbox", f"default_model = {{name = 'any', mean_output_tokens = 60, {limit}}}") as server:
        job = write_job(
            tmp_path / "job",
            example_queries(rows),
            server.base_url,
            split="strong_share = 0",
            model=f"{limit}\nexpected_output_tokens = 60",
        )
        job.succeed("run")
        requests = server.requests()
    assert requests["status"].to_list() == [200] * rows
    kind, per_minute = limit.split(" = ")
    used = rows if kind == "rpm" else int((requests["prompt_tokens"] + requests["completion_tokens"]).sum())
    span_s = float(str(requests["received_s"].max())) - float(str(requests["received_s"].min()))
    # One second's worth may leave at once, the rest at the rate; a tenth is left to jitter and to the last answers,
    # which are corrected after they came. Without the limit everything would arrive within the second.
    assert span_s >= 0.9 * (used / (int(per_minute) / 60) - 1), (used, span_s)


def main() -> None:
    """Route a table through a long bad night, write `storm.json`, print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        storm = measure(*bad_night(Path(folder), options.rows, seed=options.seed))
    text = json.dumps(asdict(storm), indent=1)
    (options.out / "storm.json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
