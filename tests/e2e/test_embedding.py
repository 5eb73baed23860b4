"""Nights whose router starts at an embedding: bought in batches, booked to the cent, never twice, kill or no kill."""

import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from tokenizers import Tokenizer

from routing.sandbox.answers import hashed_embedding
from routing.sandbox.config import DEFAULT_TOKENIZER
from routing.sandbox.tokens import TokenCounter
from tests.e2e.desk import NOWHERE, Desk, assert_told, questions
from tests.e2e.embedder import choosy
from tests.e2e.harness import Job, Server, serving
from tests.fakes import save_embedding_router

MODEL = "text-embedding-3-small"
DIM = 16
PRICE_USD_PER_MTOK = Decimal("0.02")
"""Of text-embedding-3-small in the price snapshot."""
MODELS = f"""models = [
    {{ name = "gpt-4.1", mean_output_tokens = 8 }},
    {{ name = "gpt-4.1-nano", mean_output_tokens = 8 }},
    {{ name = "{MODEL}", embedding_dimensions = {DIM}, latency_s = 0.02 }},
]"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("embeddings")
    (folder / "sandbox.toml").write_text(MODELS.replace("\n", ""), encoding="utf-8")
    with serving(folder, args=["--config", str(folder / "sandbox.toml")]) as found:
        yield found


def desk_at(folder: Path, base_url: str, **config: Any) -> Desk:
    """A desk whose router starts at embeddings of the sandbox, priced as OpenAI's."""
    save_embedding_router(folder / "router", dim=DIM)
    embedding = {"base_url": base_url, "provider": "openai", "batch_size": 8, "max_in_flight": 2}
    return Desk(folder, base_url, {"router.artifact": "router", "router.embedding": embedding, **config})


@pytest.fixture
def desk(tmp_path: Path, server: Server) -> Desk:
    return desk_at(tmp_path, server.base_url)


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    return TokenCounter(Tokenizer.from_file(str(DEFAULT_TOKENIZER)))


def embeddings(server: Server, since: int) -> pl.DataFrame:
    """Requests for embeddings after a mark."""
    return server.settled(since).filter(model=MODEL)


def test_a_night_is_scored_by_embeddings_and_their_cost_is_booked(
    desk: Desk, server: Server, counter: TokenCounter
) -> None:
    table = questions(50)
    desk.put(pl.concat([table, table.head(10).with_columns(id="again-" + pl.col("id"))]))  # ten prompts stand twice
    since = server.mark()
    ended = desk.run()
    assert ended.exit_code == 0, ended.stderr
    tokens = sum(counter.count(text) for text in table["text"])
    requests = embeddings(server, since)
    assert requests.height == 7  # 50 prompts, 8 a request, each prompt once
    assert requests["prompt_tokens"].sum() == tokens
    bill = desk.manifest()["embedding"]
    assert {key: bill[key] for key in ("prompts", "requests", "input_tokens", "unknown_calls")} == {
        "prompts": 50, "requests": 7, "input_tokens": tokens, "unknown_calls": 0,
    }  # fmt: skip
    assert Decimal(bill["cost_usd"]) == tokens * PRICE_USD_PER_MTOK / 1_000_000
    assert ended.summary["embedding"] == bill
    totals = desk.manifest()["totals"]
    assert Decimal(totals["spent_usd"]) == Decimal(totals["cost_usd"]) + Decimal(bill["cost_usd"])
    assert f"embedding: $0.{int(tokens * 2 / 100):06d} for 50 prompts" in ended.stderr
    status = desk.of_run("status")
    assert status.summary["embedding"] == bill
    assert "embedding: " in status.stderr
    published = desk.published()
    vectors = np.stack([hashed_embedding(counter.ids(text), DIM, seed=0) for text in published["prompt"]])
    assert_allclose(published["win_rate"], 1 / (1 + np.exp(-4 * vectors[:, 0].astype(np.float64))), atol=1e-6)


def test_a_plan_buys_nothing_unless_it_is_told_to(desk: Desk, server: Server, counter: TokenCounter) -> None:
    table = questions(20)
    desk.put(table)
    tokens = sum(counter.count(text) for text in table["text"])
    since = server.mark()
    plan = desk.run(command="plan")
    assert plan.exit_code == 0, plan.stderr
    assert plan.summary["status"] == "needs_embeddings"
    assert (plan.summary["embedding"]["prompts"], plan.summary["embedding"]["requests"]) == (20, 3)
    assert plan.summary["embedding"]["input_tokens"] == tokens
    assert Decimal(plan.summary["embedding"]["cost_usd"]["expected"]) == tokens * PRICE_USD_PER_MTOK / 1_000_000
    assert "split need these embeddings" in plan.stderr
    assert embeddings(server, since).is_empty()

    bought = desk.run("--embed", command="plan")
    assert bought.exit_code == 0, bought.stderr
    assert bought.summary["status"] == "planned"
    assert bought.summary["embedding"]["input_tokens"] == tokens
    assert embeddings(server, since).height == 3
    assert desk.run().exit_code == 0
    assert embeddings(server, since).height == 3  # the night needed no more


def test_win_rates_do_not_depend_on_the_batches(tmp_path: Path, server: Server) -> None:
    table = questions(40)
    found = []
    for name, size, order in (("big", 40, table), ("small", 3, table.reverse())):
        desk = desk_at(tmp_path / name, server.base_url)
        desk.put(order)
        desk.config["router.embedding"]["batch_size"] = size
        assert desk.run().exit_code == 0
        found.append(desk.published().sort("query_id")["win_rate"])
    assert found[0].equals(found[1])


def test_a_night_killed_while_it_embeds_pays_for_no_batch_twice(tmp_path: Path, server: Server) -> None:
    desk = desk_at(tmp_path, server.base_url)
    desk.put(questions(200))
    desk.write_config()
    job = Job(tmp_path)
    since = server.mark()
    assert job.killed_when(lambda: server.received(since) >= 8, "run")
    before = embeddings(server, since)
    assert 8 <= before.height < 25
    # Another batch size: what was bought is known by prompt, not by batch.
    ended = job.succeed("resume", "--set", "router.embedding.batch_size=5")
    sent = embeddings(server, since)
    prompts = {bill: ended.summary["embedding"][bill] for bill in ("prompts", "unknown_calls")}
    assert prompts["prompts"] == 200
    assert prompts["unknown_calls"] <= 2  # max_in_flight
    table = job.published()
    assert table["query_id"].n_unique() == 200
    once = sum(TokenCounter(Tokenizer.from_file(str(DEFAULT_TOKENIZER))).count(text) for text in table["prompt"])
    lost = sent["prompt_tokens"].sum() - ended.summary["embedding"]["input_tokens"]
    # Every token is bought once, but for the requests whose replies the kill took.
    assert ended.summary["embedding"]["input_tokens"] == once
    per_request = max(before["prompt_tokens"])
    assert 0 <= lost <= 2 * per_request


def test_faults_are_retried_and_one_bad_prompt_spoils_no_other(tmp_path: Path) -> None:
    faults = ("faults.rate_429=0.05", "faults.rate_500=0.05", "faults.rate_malformed=0.2", "faults.rate_empty=0.1")
    with serving(
        tmp_path / "server", f"default_model={{name='any',embedding_dimensions={DIM}}}", *faults,
        "faults.retry_after_s=[0.01, 0.05]",
    ) as faulty:  # fmt: skip
        desk = desk_at(tmp_path, faulty.base_url, **{"dispatch.backoff_initial_s": 0.01, "dispatch.max_attempts": 12})
        desk.config["router.embedding"] |= {"batch_size": 2, "max_in_flight": 8}
        desk.put(questions(60))
        ended = desk.run()
        assert ended.exit_code in (0, 1), ended.stderr  # 1: chat replies without content are failed rows
        sent = embeddings(faulty, 0)
        billed = sent.filter(status=200)
        assert billed["fault"].drop_nulls().len() > 0  # replies that were paid for and were worth nothing
        bill = desk.manifest()["embedding"]
        assert bill["prompts"] == 60
        assert bill["requests"] == billed.height
        assert desk.published().height == 60


def test_the_budget_holds_for_embeddings_too(desk: Desk, server: Server) -> None:
    desk.put(questions(100))
    since = server.mark()
    assert_told(desk.run("--max-usd", "0.000010"), 75, "the budget of $0.000010 is reached")
    spent = int(embeddings(server, since)["prompt_tokens"].sum()) * PRICE_USD_PER_MTOK / 1_000_000
    assert 0 < spent <= Decimal("0.000010")
    assert desk.run("--max-usd", "1").exit_code == 0


def test_prompts_that_are_too_long_are_rejected_before_they_are_bought(desk: Desk, server: Server) -> None:
    desk.put(
        questions(3).with_columns(text=pl.when(pl.col("id") == "q1").then(pl.lit("long " * 300)).otherwise("text"))
    )
    since = server.mark()
    ended = desk.run("--set", "input.max_prompt_tokens=200")
    assert ended.exit_code == 1
    assert desk.rejected()["broken_rules"].to_list() == ["prompt_within_max_prompt_tokens"]
    assert embeddings(server, since)["prompt_tokens"].sum() < 100


def test_what_is_missing_is_told_before_anything_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_at(tmp_path, NOWHERE)
    desk.put(questions(3))
    desk.config["router.embedding"] = None
    assert_told(desk.run(), 78, "add [router.embedding] with base_url", MODEL)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    desk.config["router.embedding"] = {"base_url": NOWHERE, "api_key_env": "NO_SUCH_KEY"}
    desk.write_config()
    assert_told(desk.run(), 78, "router.embedding (text-embedding-3-small) needs the environment variable NO_SUCH_KEY")
    desk.config["router.artifact"] = "builtin:static-mf"
    desk.write_config()
    assert_told(desk.run(), 78, "[router.embedding] is set, but router", "reads tokens; remove it")


def test_another_endpoint_is_another_run(desk: Desk) -> None:
    desk.put(questions(3))
    assert desk.run("--embed", command="plan").exit_code == 0
    desk.config["router.embedding"]["base_url"] = NOWHERE
    desk.write_config()
    assert_told(desk.run(), 78, f'embedding.base_url: was "{desk.base_url}", is "{NOWHERE}"')


def test_vectors_of_another_width_stop_the_night(tmp_path: Path, server: Server) -> None:
    desk = desk_at(tmp_path, server.base_url)
    shutil.rmtree(tmp_path / "router")
    save_embedding_router(tmp_path / "router", dim=DIM + 1)
    desk.put(questions(3))
    ended = desk.run("--set", "dispatch.backoff_initial_s=0", "--set", "dispatch.max_attempts=2")
    assert_told(ended, 75, "3 prompts could not be embedded", "not 3 vectors of 17 numbers", "check the endpoint")


def test_a_refused_prompt_is_set_aside_and_a_long_one_is_cut(tmp_path: Path) -> None:
    table = questions(20).with_columns(
        text=pl.when(pl.col("id") == "q3").then(pl.lit("poison " * 8)).when(pl.col("id") == "q7")
        .then(pl.lit("word " * 60)).otherwise("text"),
    )  # fmt: skip
    with choosy(lambda text: "poison" not in text and len(text) < 200, dim=DIM) as (url, requests):
        desk = desk_at(tmp_path, url)
        desk.put(table)
        plan = desk.run("--embed", command="plan")
    assert plan.exit_code == 0, plan.stderr
    assert plan.summary["rows"] == {"scored": 19, "rejected": 1, "strong": 10, "weak": 9}
    rejected = desk.rejected()
    assert rejected.select("query_id", "broken_rules").rows() == [("q3", "prompt_accepted_by_embedding_endpoint")]
    scores = pl.concat(pl.read_parquet(file) for file in sorted((desk.run_dir / "scores").glob("part-*.parquet")))
    # The long prompt was refused in its batch, alone and whole, and taken at half of its length.
    half = next(texts[0] for texts in requests if texts[0].startswith("word") and len(texts[0]) < 200)
    assert half == " ".join(["word"] * 30)
    found = scores.filter(query_id="q7")["win_rate"].item()
    assert found == pytest.approx(1 / (1 + np.exp(-4 * len(half) / 1_000)), abs=1e-6)
    assert [len(texts) for texts in requests].count(1) == 8 + 3 + 1  # the spoilt batch one by one; q3 again; q7 halved


def test_an_endpoint_that_refuses_everything_spoils_no_prompt(tmp_path: Path) -> None:
    refusing = [True]
    with choosy(lambda _: not refusing[0], dim=DIM) as (url, requests):
        desk = desk_at(tmp_path, url)
        desk.put(questions(3))
        for _ in range(6):
            assert_told(desk.run("--embed", command="plan"), 75, "refused all that it was sent, the last with bad_requ")
        refusing[0] = False
        ended = desk.run("--embed", command="plan")
    assert ended.exit_code == 0, ended.stderr
    assert ended.summary["rows"]["rejected"] == 0
    assert sorted(texts[0] for texts in requests[-3:]) == sorted(questions(3)["text"])  # whole


def test_more_replies_than_are_read_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch, counter: TokenCounter) -> None:
    monkeypatch.setattr("jobs.embedding._REPLIES", 2)
    desk.config["router.embedding"]["batch_size"] = 3
    desk.put(questions(20))
    assert desk.run().exit_code == 0
    published = desk.published()
    vectors = np.stack([hashed_embedding(counter.ids(text), DIM, seed=0) for text in published["prompt"]])
    assert_allclose(published["win_rate"], 1 / (1 + np.exp(-4 * vectors[:, 0].astype(np.float64))), atol=1e-6)


def test_an_endpoint_that_is_not_there_is_told_and_spends_nothing(tmp_path: Path) -> None:
    with choosy(lambda text: False, dim=DIM, status=404) as (url, _):
        desk = desk_at(tmp_path, url)
        desk.put(questions(3))
        assert_told(desk.run(), 78, "3 prompts could not be embedded, the last with not_found", "check base_url in")


def test_a_budget_split_leaves_room_for_the_embeddings(desk: Desk, server: Server) -> None:
    desk.put(questions(40))
    desk.config.update({"split.strong_share": None, "split.max_usd": "0.05"})
    plan = desk.run("--embed", command="plan")
    assert plan.exit_code == 0, plan.stderr
    bought = Decimal(plan.summary["embedding"]["cost_usd"])
    expected = Decimal(plan.summary["split"]["expected_usd"])
    assert bought > 0
    assert expected + bought <= Decimal("0.05")


def test_a_night_with_routellms_mf(tmp_path: Path, server: Server, counter: TokenCounter) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from jobs.import_routellm import ImportOptions, import_routellm
    from routing.training.import_routellm import import_mf
    from tests.routellm_checkpoints import save_mf

    desk = desk_at(tmp_path, server.base_url)
    checkpoint = save_mf(tmp_path / "mf", text_dim=DIM)
    import_routellm(checkpoint, ImportOptions(output=tmp_path / "router"))
    desk.put(questions(30))
    assert desk.run().exit_code == 0
    published = desk.published()
    vectors = np.stack([hashed_embedding(counter.ids(text), DIM, seed=0) for text in published["prompt"]])
    assert_allclose(published["win_rate"], import_mf(checkpoint).win_rates(vectors), atol=1e-5)
    tokens = sum(counter.count(text) for text in published["prompt"])
    assert Decimal(desk.manifest()["embedding"]["cost_usd"]) == tokens * PRICE_USD_PER_MTOK / 1_000_000
