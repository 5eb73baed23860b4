"""Runs killed with SIGKILL at seeded moments and resumed once: nothing lost, nothing twice, nothing different.

The harness follows the sandbox's journal (or waits for a file of a stage) and kills the job's process group. What was
in flight at the kill is found from outside: requests that the journal received and whose reply is not in a copy of the
ledger taken right after the kill. One hundred kills with a table of results:

    PYTHONPATH=. python tests/e2e/test_kill.py --kills 100 --out out/crash
"""

import argparse
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.e2e.harness import Job, Server, example_queries, serving, write_job

ROWS, PART_ROWS = 120, 25
MAX_IN_FLIGHT = 8
IN_FLIGHT = 2 * MAX_IN_FLIGHT
"""Requests at once, of both models together."""
LATENCY_S = 0.03
SEED = 20261122
OF_THE_MOMENT = ("attempts", "latency_s", "answered_at")
"""Published columns that tell when and how often, and so differ between two runs."""

STAGES = (
    "run/plan.json", "run/scores/part-00000.parquet", "run/scores/part-00003.parquet", "run/scores/repeated.parquet",
    "run/split.json", "run/ledger/ledger.sqlite", "run/staging/table/part-00000.parquet",
    "run/staging/table/part-00003.parquet", "run/staging/table/_manifest.json", "answers", "run/manifest.json",
)  # fmt: skip
"""Files whose appearance marks a stage: scoring, splitting, publishing."""


Kill = Callable[[Job, int], bool]
"""Starts a command of a job and kills it; takes the journal's mark, false: the command ended before."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What one killed and resumed run came to."""

    moment: str
    received: int
    """Requests that had reached the sandbox at the kill."""
    in_flight: int
    """Of these, the ones whose reply the ledger had not stored."""
    wasted: int
    """Answers billed beyond one a row, over the whole life of the run."""
    unknown: int
    """`unknown_calls` of the manifest."""
    unanswered_sends: int
    """Sends without a reply in the ledger: what `unknown` should say."""
    lost: int
    twice: int
    differing: int
    """Published rows that differ from the unkilled run in anything but time."""
    exit_code: int
    """Of the resume: 0, or 99 where the kill came after the last write."""


@dataclass(frozen=True, slots=True)
class Site:
    """A sandbox, and the table that an unkilled run published."""

    folder: Path
    server: Server
    expected: pl.DataFrame

    def job(self, name: str) -> Job:
        """Write a fresh job; the folder is removed by `clear`."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return _write(self.folder / name, self.server)


def _write(folder: Path, server: Server) -> Job:
    return write_job(
        folder,
        example_queries(ROWS),
        server.base_url,
        split="strong_share = 0.3",
        model=f"max_in_flight = {MAX_IN_FLIGHT}",
        part_rows=PART_ROWS,
    )


def open_site(folder: Path, server: Server) -> Site:
    """Run the job once without a kill."""
    job = _write(folder / "unkilled", server)
    job.succeed("run")
    return Site(folder, server, job.published())


def stored(job: Job) -> set[str]:
    """Request ids whose reply the ledger holds, read from a copy: recovering the original is the job's own affair."""
    if not (job.run_dir / "ledger" / "ledger.sqlite").exists():
        return set()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(job.run_dir / "ledger", Path(folder) / "ledger")) / "ledger.sqlite"
        with closing(sqlite3.connect(copy)) as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ends'").fetchone()[0]:
                return set()  # killed while the tables were made
            rows = connection.execute(
                "SELECT substr(s.call_key, 1, 32) || '-' || s.attempt FROM sends s JOIN replies r ON r.send_id = s.id"
            )
            return {name for (name,) in rows}


def unanswered_sends(job: Job) -> int:
    with closing(sqlite3.connect(job.run_dir / "ledger" / "ledger.sqlite")) as connection:
        sql = "SELECT count(*) FROM sends WHERE id NOT IN (SELECT send_id FROM replies)"
        return int(connection.execute(sql).fetchone()[0])


def in_flight(job: Job, requests: pl.DataFrame) -> int:
    """Requests that the journal received and whose reply is not in the ledger."""
    return requests.filter(~pl.col("client_request_id").is_in(sorted(stored(job)))).height


def resume(site: Site, job: Job, moment: str, *, since: int, received: int, flying: int) -> Killed:
    """Resume a killed run and compare it with the unkilled one.

    Args:
        site: Where it runs.
        job: The killed job.
        moment: Name of the kill.
        since: Mark of the journal before the first process.
        received: Requests that came in before the last kill.
        flying: Requests in flight at the kills, summed.
    """
    ended = job.carry_out("resume")
    assert ended.exit_code in (0, 99), ended.stderr
    requests = site.server.settled(since)
    table = job.published()
    keys = site.expected.select("query_id")
    both = site.expected.drop(OF_THE_MOMENT).join(
        table.drop(OF_THE_MOMENT), on=table.drop(OF_THE_MOMENT).columns, how="semi", nulls_equal=True
    )
    return Killed(
        moment=moment,
        received=received,
        in_flight=flying,
        wasted=requests.filter(status=200).height - requests.filter(status=200)["call"].n_unique(),
        unknown=job.manifest()["totals"]["unknown_calls"],
        unanswered_sends=unanswered_sends(job),
        lost=keys.join(table, on="query_id", how="anti").height,
        twice=table.height - table["query_id"].n_unique(),
        differing=site.expected.height - both.height,
        exit_code=ended.exit_code,
    )


def kill_and_resume(site: Site, moment: str, kills: Sequence[Kill]) -> Killed | None:
    """Start a job, kill it (and what follows it) as told, resume it; null: a kill came too late."""
    job = site.job("killed")
    since = site.server.mark()
    flying = received = 0
    for kill in kills:
        before = site.server.mark()
        if not kill(job, before):
            return None
        requests = site.server.settled(before)
        flying += in_flight(job, requests)
        received += requests.height
    return resume(site, job, moment, since=since, received=received, flying=flying)


def at_count(site: Site, count: int, command: str = "run") -> Kill:
    """A kill once `count` requests have come in."""
    return lambda job, since: job.killed_when(lambda: site.server.received(since) >= count, command)


def at_file(path: str, command: str = "run") -> Kill:
    """A kill at the first sight of a file of the job."""
    return lambda job, _: job.killed_when((job.folder / path).exists, command)


def check(killed: Killed, *, kills: int = 1) -> None:
    """The promise, for one run."""
    assert (killed.lost, killed.twice, killed.differing) == (0, 0, 0), killed
    assert killed.wasted <= killed.in_flight <= killed.unknown <= kills * IN_FLIGHT, killed
    assert killed.unknown == killed.unanswered_sends, killed


def seeded_counts(n: int) -> list[int]:
    """`n` counts of requests from 1 to the number of rows: one drawn from each of `n` equal slices."""
    edges = np.linspace(1, ROWS + 1, n + 1)
    return [int(count) for count in np.random.default_rng(SEED).uniform(edges[:-1], edges[1:])]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("kill")
    with serving(folder / "sandbox", f"default_model={{name='any', latency_s={LATENCY_S}}}") as server:
        yield open_site(folder, server)


def surely(site: Site, moment: str, *kills: Kill) -> Killed:
    """`kill_and_resume`, again where a busy machine let the harness come too late."""
    tries = (kill_and_resume(site, moment, kills) for _ in range(3))
    killed = next((killed for killed in tries if killed is not None), None)
    assert killed is not None, "the run ended before it was killed, three times"
    return killed


@pytest.mark.parametrize("count", seeded_counts(2))
def test_a_run_killed_while_it_sends_loses_nothing_and_pays_nothing_twice(site: Site, count: int) -> None:
    killed = surely(site, f"request {count}", at_count(site, count))
    assert killed.received >= count
    check(killed)


@pytest.mark.parametrize("path", ["run/scores/part-00003.parquet", "run/staging/table/part-00000.parquet"])
def test_a_run_killed_while_it_scores_or_publishes_is_finished_by_a_resume(site: Site, path: str) -> None:
    killed = surely(site, path, at_file(path))
    check(killed)
    assert killed.wasted == 0


def test_two_killed_runs_and_a_killed_resume_are_finished_by_the_next(site: Site) -> None:
    kills = at_count(site, 10), at_count(site, 30), at_count(site, 30, "resume")
    check(surely(site, "run 10, run 30, resume 30", *kills), kills=len(kills))


def kill_many(site: Site, kills: int) -> pl.DataFrame:
    """Kill and resume `kills` runs at seeded counts, then one at each stage: one row a run."""
    moments = [(f"request {count}", [at_count(site, count)]) for count in seeded_counts(kills)]
    moments += [(path, [at_file(path)]) for path in STAGES]
    results = []
    for number, (moment, kill) in enumerate(moments):
        killed = kill_and_resume(site, moment, kill)
        if killed is None:
            sys.stderr.write(f"{number + 1}/{len(moments)} {moment}: ended before it was killed\n")
            continue
        sys.stderr.write(f"{number + 1}/{len(moments)} {killed}\n")
        results.append(asdict(killed))
    return pl.DataFrame(results)


@pytest.mark.slow
def test_one_hundred_kills(site: Site) -> None:
    results = kill_many(site, 100)
    at_counts = results.filter(pl.col("moment").str.starts_with("request"))
    # A kill after the last request may come too late for a process that only publishes: most of them must have hit.
    assert at_counts.height >= 98
    for row in results.iter_rows(named=True):
        check(Killed(**row))


def main() -> None:
    """Kill runs for real, write `kills.csv`, print the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "sandbox", f"default_model={{name='any', latency_s={LATENCY_S}}}") as server,
    ):
        results = kill_many(open_site(Path(folder), server), options.kills)
    results.write_csv(options.out / "kills.csv")
    numbers = pl.selectors.integer() - pl.selectors.by_name("exit_code", "received")
    sums = results.select(numbers.sum()).row(0, named=True)
    peaks = results.select(numbers.max()).row(0, named=True)
    sys.stdout.write(f"runs killed and resumed: {results.height}\nsums:  {sums}\nworst: {peaks}\n")


if __name__ == "__main__":
    main()
