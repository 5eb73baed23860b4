"""A strong share and a budget are met to the row, with and without ties; money spent never passes the guard."""

from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from tests.e2e.harness import STRONG, WEAK, Ended, Job, example_queries, serving, write_job

RATES = {STRONG: (Decimal("2"), Decimal("8")), WEAK: (Decimal("0.1"), Decimal("0.4"))}
"""USD per million input and output tokens, for the job and for the sandbox's own bill alike."""
PRICES = "\n".join(
    f'[[prices]]\nmodel = "{name}"\ninput_usd_per_mtok = "{rates[0]}"\noutput_usd_per_mtok = "{rates[1]}"'
    for name, rates in RATES.items()
)
SANDBOX_PRICES = ", ".join(
    f'{{name = "{name}", input_usd_per_mtok = {rates[0]}, output_usd_per_mtok = {rates[1]}, mean_output_tokens = 120, '
    "latency_s = 0.05}"
    for name, rates in RATES.items()
)
EXPECTED_TOKENS = 100
OUTPUT_LIMIT = 150
"""Sent with every call, so that what a call may cost is bounded, and the guard exact."""
MODEL = (
    f"expected_output_tokens = {EXPECTED_TOKENS}\nparams = {{ max_completion_tokens = {OUTPUT_LIMIT} }}\n"
    "max_in_flight = 16\nstart_in_flight = 16"
)


def with_ids(prompts: pl.DataFrame) -> pl.DataFrame:
    return prompts.select(pl.format("q-{}", pl.int_range(pl.len())).alias("query_id"), "prompt")


def distinct() -> pl.DataFrame:
    return with_ids(example_queries(155))


def tied() -> pl.DataFrame:
    """165 rows of 40 prompts: groups of four and five equal scores."""
    return with_ids(pl.concat([example_queries(40)] * 5).head(165))


def identical() -> pl.DataFrame:
    """145 rows that ask the same: one score for the whole table."""
    return with_ids(pl.concat([example_queries(1)] * 145))


# Row counts whose 0.3 ends in a half: rounding to even or down would miss them.
TABLES = {"distinct": distinct, "tied": tied, "identical": identical}


class Ordered(NamedTuple):
    """A scored table in the order of the split."""

    ids: list[str]
    costs: list[Decimal]
    """Expected cost of the whole table with the first 0, 1, 2, ... queries on the strong model."""
    n_scores: int


def ordered(job: Job) -> Ordered:
    """Read a run's scores and compute the expected cost of every prefix, in plain Python."""
    scored = pl.read_parquet(job.run_dir / "scores" / "part-*.parquet")
    rows = sorted(
        scored.select("win_rate", "tie_key", "query_id", "prompt_tokens").iter_rows(), key=lambda row: (-row[0], row[1])
    )
    cost = {
        model: [(row[3] * rates[0] + EXPECTED_TOKENS * rates[1]) / 1_000_000 for row in rows]
        for model, rates in RATES.items()
    }
    costs = [sum(cost[WEAK], Decimal(0))]
    for strong, weak in zip(cost[STRONG], cost[WEAK], strict=True):
        costs.append(costs[-1] + strong - weak)
    return Ordered([row[2] for row in rows], costs, scored["win_rate"].n_unique())


def strong_ids(job: Job) -> set[str]:
    return set(job.published().filter(route="strong")["query_id"])


def billed(requests: pl.DataFrame) -> Decimal:
    """What the sandbox charged."""
    return sum(requests["cost_usd"], Decimal(0))


def dearest(job: Job) -> Decimal:
    """What the dearest call may cost: its tokens with a fifth more, and the longest answer."""
    tokens = pl.read_parquet(job.run_dir / "scores" / "part-*.parquet")["prompt_tokens"].max()
    input_rate, output_rate = RATES[STRONG]
    return (Decimal("1.2") * int(str(tokens)) * input_rate + OUTPUT_LIMIT * output_rate) / 1_000_000


def plan(folder: Path, queries: pl.DataFrame, split: str) -> Ended:
    """Score and split a table; nothing is sent."""
    job = write_job(folder, queries, "http://127.0.0.1:9/v1", split=split, model=MODEL, extra=PRICES)
    return job.succeed("plan")


class Night(NamedTuple):
    """A table that was routed at a strong share of 0.3."""

    queries: pl.DataFrame
    job: Job
    asked: pl.DataFrame


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Night]:
    folder = tmp_path_factory.mktemp("share")
    routed = {}
    with serving(folder / "sandbox") as server:
        for kind, table in TABLES.items():
            since = server.mark()
            job = write_job(folder / kind, table(), server.base_url, split="strong_share = 0.3", model=MODEL)
            job.succeed("run")
            routed[kind] = Night(table(), job, server.requests(since))
    return routed


@pytest.mark.parametrize("kind", TABLES)
def test_a_strong_share_is_met_to_the_row(nights: dict[str, Night], kind: str) -> None:
    queries, job, asked = nights[kind]
    wanted = int((Decimal("0.3") * queries.height).to_integral_value(ROUND_HALF_UP))
    assert 10 * wanted == 3 * queries.height + 5  # a half, rounded up
    assert strong_ids(job) == set(ordered(job).ids[:wanted])
    assert job.manifest()["rows"]["strong"] == wanted
    assert asked.filter(model=STRONG).height == wanted
    assert asked.height == queries.height


@pytest.mark.parametrize("kind", TABLES)
def test_a_budget_is_spent_up_to_the_query_that_would_pass_it(
    tmp_path: Path, nights: dict[str, Night], kind: str
) -> None:
    queries, order = nights[kind].queries, ordered(nights[kind].job)
    assert (order.n_scores <= queries.height // 3) == (kind != "distinct")
    n_strong = queries.height // 3
    exact = order.costs[n_strong]
    # Answers are shorter than expected, so that the guard does not end the run before the split is carried out.
    with serving(tmp_path / "sandbox", "default_model = {name = 'any', mean_output_tokens = 40}") as server:
        job = write_job(
            tmp_path / "job", queries, server.base_url, split=f'max_usd = "{exact}"', model=MODEL, extra=PRICES
        )
        job.succeed("run")
    # The budget is the very cost of that many strong queries: it is met, and one more would pass it.
    assert strong_ids(job) == set(order.ids[:n_strong])
    split = job.manifest()["split"]
    assert Decimal(split["expected_usd"]) == exact < order.costs[n_strong + 1]


def test_a_trillionth_of_a_dollar_less_buys_one_query_less(tmp_path: Path, nights: dict[str, Night]) -> None:
    queries, costs = nights["tied"].queries, ordered(nights["tied"].job).costs
    for max_usd, n_strong in [(costs[50] - Decimal("1e-12"), 49), ((costs[50] + costs[51]) / 2, 50)]:
        ended = plan(tmp_path / str(n_strong), queries, f'max_usd = "{max_usd:f}"')
        assert ended.summary["rows"]["strong"] == n_strong
        assert Decimal(ended.summary["split"]["expected_usd"]) == costs[n_strong] <= max_usd


def test_money_spent_stays_within_the_guard_and_a_resume_with_more_finishes(tmp_path: Path) -> None:
    limit = Decimal("0.03")
    with serving(tmp_path / "sandbox", f"models = [{SANDBOX_PRICES}]") as server:
        job = write_job(
            tmp_path / "job", distinct(), server.base_url, split="strong_share = 0.5", model=MODEL, extra=PRICES
        )
        stopped = job.carry_out("run", "--max-usd", str(limit))
        assert stopped.exit_code == 75, stopped.stderr
        assert "budget of $0.03 is reached" in stopped.summary["error"]
        spent = billed(server.requests())
        assert limit - dearest(job) < spent <= limit  # not a call too late, nor one too early
        assert job.carry_out("resume").exit_code == 75
        assert billed(server.requests()) <= limit

        job.succeed("resume", "--max-usd", "1")
        requests = server.requests()
    assert requests.height == requests["call"].n_unique() == 155
    assert Decimal(job.manifest()["totals"]["spent_usd"]) == job.published()["cost_usd"].sum() == billed(requests)


def test_calls_lost_in_a_kill_count_against_the_budget(tmp_path: Path) -> None:
    limit = Decimal("0.03")
    with serving(tmp_path / "sandbox", f"models = [{SANDBOX_PRICES}]") as server:
        job = write_job(
            tmp_path / "job", distinct(), server.base_url, split="strong_share = 0.5", model=MODEL, extra=PRICES
        )
        assert job.killed_when(
            lambda: server.journal.exists() and server.received() >= 30, "run", "--max-usd", str(limit)
        )
        assert job.carry_out("resume", "--max-usd", str(limit)).exit_code == 75
        requests = server.settled()
    assert requests.height > requests["call"].n_unique()  # some were paid for and lost
    assert billed(requests) <= limit
