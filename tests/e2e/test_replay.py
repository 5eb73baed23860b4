"""GSM8K against recorded answers: 1,319 prompts routed, every answer, every route and every cent checked from outside.

The sandbox replays what both models really answered. The bill is computed a second time in plain Python from the
journal of the sandbox, which the job never sees, and the rates of genai-prices.
"""

import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from genai_prices import Usage, calc_price

from tests.e2e.harness import ROOT, Ended, Job, serving, write_job

STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
DATA = Path(os.environ.get("NIGHTROUTE_DATA", ROOT.parent / "shared" / "data"))
RECORDED = DATA / "benchmarks" / "gsm8k.parquet"
WEAK_RATES = Decimal("0.6"), Decimal("0.6")
"""USD per million input and output tokens: genai-prices does not know the weak model under its recorded name."""
OVERRIDE = f"""
[[prices]]
model = "{WEAK}"
input_usd_per_mtok = "{WEAK_RATES[0]}"
output_usd_per_mtok = "{WEAK_RATES[1]}"
"""

pytestmark = pytest.mark.skipif(
    not RECORDED.is_file(),
    reason=f"no recorded answers at {RECORDED}; NIGHTROUTE_DATA names the folder that holds them",
)


def recorded() -> pl.DataFrame:
    """Prompt, model, response: one row a recorded answer."""
    return pl.read_parquet(RECORDED, columns=["prompt", "model", "response"])


def prompts() -> pl.DataFrame:
    """The distinct prompts, in the order of the file, with ids of our own."""
    table = recorded().select("prompt").unique(maintain_order=True)
    return table.select(pl.format("gsm8k-{}", pl.int_range(pl.len())).alias("query_id"), "prompt")


def route_gsm8k(folder: Path, queries: pl.DataFrame, *, prices: str) -> tuple[Job, Ended, pl.DataFrame]:
    """Run the night; return the job, how it ended and the requests that the sandbox saw."""
    with serving(folder / "sandbox", args=["--replay", str(RECORDED)]) as server:
        job = write_job(
            folder / "job",
            queries,
            server.base_url,
            split="strong_share = 0.3",
            strong=STRONG,
            weak=WEAK,
            model="max_in_flight = 32",
            extra=prices,
        )
        ended = job.succeed("run")
        return job, ended, server.requests()


def strong_rates() -> tuple[Decimal, Decimal]:
    """USD per million input and output tokens of the strong model, as genai-prices charges them."""
    million = 1_000_000
    rates = [
        calc_price(usage, STRONG, provider_id="openai").total_price
        for usage in (Usage(input_tokens=million), Usage(output_tokens=million))
    ]
    return rates[0], rates[1]


def bill(requests: pl.DataFrame, rates: dict[str, tuple[Decimal, Decimal]]) -> dict[str, Decimal]:
    """Sum the journal's tokens in plain Python, one exact decimal a call: model -> USD."""
    total = dict.fromkeys(rates, Decimal(0))
    for model, prompt_tokens, completion_tokens in requests.select(
        "model", "prompt_tokens", "completion_tokens"
    ).iter_rows():
        input_rate, output_rate = rates[model]
        total[model] += (prompt_tokens * input_rate + completion_tokens * output_rate) / 1_000_000
    return total


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Ended, pl.DataFrame]:
    return route_gsm8k(tmp_path_factory.mktemp("priced"), prompts(), prices=OVERRIDE)


def test_every_prompt_comes_back_once_and_in_order(priced: tuple[Job, Ended, pl.DataFrame]) -> None:
    job, ended, requests = priced
    table = job.published()
    assert table["query_id"].to_list() == prompts()["query_id"].to_list()
    assert table["prompt"].to_list() == prompts()["prompt"].to_list()
    assert table["status"].unique().to_list() == ["ok"]
    assert ended.summary["rows"]["published"] == requests.height == table.height == 1319


def test_every_answer_is_the_recorded_one_of_the_model_it_was_routed_to(
    priced: tuple[Job, Ended, pl.DataFrame],
) -> None:
    table = priced[0].published()
    said = {(model, prompt): response for prompt, model, response in recorded().iter_rows()}
    assert table["answer"].to_list() == [said[key] for key in table.select("requested_model", "prompt").iter_rows()]
    models = pl.col("route").cast(pl.String).replace_strict({"strong": STRONG, "weak": WEAK})
    assert table.select((pl.col("requested_model") == models).all()).item()
    assert table.select((pl.col("served_model") == models).all()).item()


def test_the_strong_share_is_met_to_the_row(priced: tuple[Job, Ended, pl.DataFrame]) -> None:
    assert Counter(priced[0].published()["route"]) == {"strong": 396, "weak": 923}  # 0.3 x 1319 = 395.7


def test_the_bill_is_exact_to_the_last_digit(priced: tuple[Job, Ended, pl.DataFrame]) -> None:
    job, ended, requests = priced
    expected = bill(requests, {STRONG: strong_rates(), WEAK: WEAK_RATES})
    total = sum(expected.values())
    table, manifest = job.published(), job.manifest()
    assert table["cost_usd"].sum() == total
    assert Decimal(ended.summary["cost_usd"]) == Decimal(ended.summary["spent_usd"]) == total
    assert Decimal(manifest["totals"]["cost_usd"]) == total
    assert {model: Decimal(sums["cost_usd"]) for model, sums in manifest["models"].items()} == expected
    assert table["input_tokens"].sum() == requests["prompt_tokens"].sum() == manifest["totals"]["input_tokens"]
    assert table["output_tokens"].sum() == requests["completion_tokens"].sum() == manifest["totals"]["output_tokens"]
    assert table["price_id"].null_count() == 0


def test_a_model_without_a_price_is_reported_and_never_free(tmp_path: Path) -> None:
    job, ended, requests = route_gsm8k(tmp_path, prompts().head(200), prices="")
    table, totals = job.published(), job.manifest()["totals"]
    weak, strong = table.filter(route="weak"), table.filter(route="strong")
    assert f"warning: models.weak: no price for model '{WEAK}': its cost is unknown, not $0" in ended.stderr
    assert weak["cost_usd"].null_count() == weak.height == totals["unpriced_rows"] == ended.summary["unpriced_rows"]
    assert weak["unpriced_reason"].null_count() == 0
    assert strong["cost_usd"].null_count() == 0
    expected = bill(requests.filter(model=STRONG), {STRONG: strong_rates()})[STRONG]
    assert table["cost_usd"].sum() == Decimal(totals["cost_usd"]) == expected
    # All-weak cannot be known, so no saving is claimed.
    assert totals["all_weak_usd"] is None
