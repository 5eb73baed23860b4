"""`nightroute label` against the sandbox: both orders of every query, and every cent."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jobs import label_run
from jobs.label_config import JUDGES
from routing.ledger import Ledger
from routing.training.importers import battle_table, detect
from tests.e2e.desk import assert_told, nightroute
from tests.e2e.harness import ROOT, Server, serving
from tests.e2e.labelling import (
    JUDGE,
    LONG,
    STRONG,
    WEAK,
    WINNER_OF,
    LabelDesk,
    asked,
    judging,
    table,
    write_label,
)
from tests.e2e.recorder import recording

ROWS, SIZE = 70, 35


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five batches in every test, the last one smaller."""
    monkeypatch.setattr(label_run, "BATCH_ROWS", 8)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with judging(tmp_path_factory.mktemp("judging")) as found:
        yield found


@pytest.fixture
def desk(tmp_path: Path, server: Server) -> LabelDesk:
    return write_label(tmp_path / "desk", table(ROWS), server.base_url, size=SIZE)


def told(desk: LabelDesk, exit_code: int, *args: str) -> dict[str, object]:
    """Run in this process; returns the JSON summary."""
    ended = nightroute("label", "--config", str(desk.config), *args)
    assert ended.exit_code == exit_code, ended.stderr
    return ended.summary


def kinds(labels: pl.DataFrame) -> pl.DataFrame:
    """The labels with the kind of each question."""
    return labels.with_columns(kind=pl.col("prompt").str.extract(r"kind (\w+):"))


def judge_prompt(question: str, first: str, second: str) -> str:
    template = (JUDGES / "pair.txt").read_text(encoding="utf-8").strip()
    before, _, after = template.partition("{question}")
    middle, _, rest = after.partition("{answer_a}")
    between, _, end = rest.partition("{answer_b}")
    return before + question + middle + first + between + second + end


# ---- the table ------------------------------------------------------------------------------------------------------


def test_every_sampled_query_is_judged_in_both_orders_and_every_cent_is_booked(desk: LabelDesk, server: Server) -> None:
    since = server.mark()
    summary = told(desk, 1)  # the mute and the long judgements have no verdict
    requests, labels = asked(server, since), kinds(desk.labels())

    # Both orders of every row were asked, and nothing else: the very prompts, by their digests.
    digests = Counter(requests.filter(model=JUDGE)["prompt_sha256"])
    wanted = Counter(
        hashlib.sha256(judge_prompt(prompt, *answers).encode()).hexdigest()
        for prompt, a, b in labels.select("prompt", "answer_a", "answer_b").iter_rows()
        for answers in ((a, b), (b, a))
    )
    assert digests == wanted
    assert Counter(requests["model"]) == {STRONG: SIZE, WEAK: SIZE, JUDGE: 2 * SIZE}

    assert labels.height == labels["query_id"].n_unique() == SIZE
    assert set(labels["kind"]) == set(WINNER_OF)
    for kind, winner in WINNER_OF.items():
        assert set(labels.filter(kind=kind)["winner"].cast(pl.String)) == {winner}, kind
    assert set(labels["answer_a"]) == {"STRONG has thought about it."}
    assert set(labels.filter(kind="strong")["judgement_ab"]) == {"Not [[B]] but [[A]]"}
    fickle = labels.filter(kind="fickle").select("verdict_ab", "verdict_ba").unique().rows()
    assert fickle == [("model_a", "tie")]

    sums = labels.select(pl.col("strong_cost_usd", "weak_cost_usd", "judge_cost_usd", "cost_usd").sum()).row(0)
    by_model = dict(requests.group_by("model").agg(pl.col("cost_usd").sum()).iter_rows())
    assert sums == (by_model[STRONG], by_model[WEAK], by_model[JUDGE], sum(by_model.values()))
    assert Decimal(str(summary["spent_usd"])) == requests["cost_usd"].sum()
    assert desk.manifest()["totals"]["attempts"] == requests.height == labels["attempts"].sum()
    assert told(desk, 99)["status"] == "stopped"
    assert server.received(since) == requests.height


def test_an_unparsable_judgement_is_kept_as_it_came(desk: LabelDesk) -> None:
    summary = told(desk, 1)
    labels = kinds(desk.labels())
    silent = labels.filter(pl.col("kind").is_in(["mute", "long"]))
    assert set(silent["error_code"]) == {"unparsed_judgement"}
    assert summary["errors"] == {"unparsed_judgement": silent.height}
    assert set(silent.filter(kind="mute")["judgement_ba"]) == {"I cannot decide."}
    (cut,) = set(silent.filter(kind="long")["judgement_ab"])
    assert LONG.startswith(cut)
    assert "[[A]]" not in cut
    assert "was cut at its token limit" in silent.filter(kind="long")["error_message"][0]
    assert labels.filter(pl.col("status") == "ok")["error_code"].null_count() == SIZE - silent.height


def test_training_reads_the_table_as_battles(desk: LabelDesk) -> None:
    told(desk, 1, "--set", "source=mine")
    labels = desk.labels()
    assert detect(labels.columns) == "battles"
    found = battle_table(labels, min_prompt_chars=1)
    assert found.battles.height == labels["winner"].count()
    assert set(found.rejected["reason"]) == {"winner is missing"}
    expected = labels.drop_nulls("winner").select("prompt", "model_a", "model_b", "winner", "source")
    assert found.battles.rows() == expected.rows()
    assert set(found.battles["source"]) == {"mine"}


def test_batches_change_nothing(desk: LabelDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(desk, 1)
    assert pl.read_parquet(desk.run_dir / "sample.parquet")["batch"].n_unique() == 5
    monkeypatch.setattr(label_run, "BATCH_ROWS", 1_000)
    again = ["--set", f"run_dir={tmp_path / 'other'}", "--set", f"output.path={tmp_path / 'other.parquet'}"]
    told(desk, 1, *again)
    assert pl.read_parquet(tmp_path / "other.parquet").equals(desk.labels())


def test_the_summary_tells_what_the_orders_say(desk: LabelDesk) -> None:
    orders = told(desk, 1)["orders"]
    n = kinds(desk.labels())["kind"].value_counts()
    by_kind = dict(n.iter_rows())
    agreed = sum(by_kind[kind] for kind in ("strong", "weak", "even"))
    assert orders == {
        "judged": agreed + by_kind["first"] + by_kind["fickle"],
        "agreed": agreed,
        "chose_first": by_kind["first"],
        "chose_second": 0,
    }


def test_a_stratified_sample_has_as_many_of_each(desk: LabelDesk) -> None:
    summary = told(desk, 1, "--set", "sample.stratify=kind", "--set", "sample.size=14")
    assert summary["rows"] == {"rejected": 0, "sampled": 14, "ok": 10, "failed": 4, "unsent": 0}
    assert desk.manifest()["strata"] == dict.fromkeys(WINNER_OF, 2)
    assert kinds(desk.labels()).filter(pl.col("kind") != pl.col("stratum")).is_empty()


def test_the_shipped_example_runs_against_its_sandbox(tmp_path: Path) -> None:
    config = ROOT / "examples" / "label-sandbox.toml"
    with serving(tmp_path / "sandbox", args=["--config", str(config)]) as sandbox:
        sets = [f"models.{role}.base_url={sandbox.base_url}" for role in ("strong", "weak", "judge")]
        sets += [f"run_dir={tmp_path / 'run'}", f"output.path={tmp_path / 'labels.parquet'}"]
        overrides = [word for one in sets for word in ("--set", one)]
        ended = nightroute("label", "--config", str(ROOT / "examples" / "label.toml"), *overrides)
    assert ended.exit_code == 0, ended.stderr
    assert ended.summary["orders"]["agreed"] == ended.summary["rows"]["ok"] == 60
    assert min(ended.summary["winners"].values()) > 0


# ---- golden ---------------------------------------------------------------------------------------------------------


def test_a_golden_column_asks_no_judge(desk: LabelDesk, server: Server) -> None:
    since = server.mark()
    summary = told(desk, 0, "--golden", "answer")
    assert Counter(asked(server, since)["model"]) == {STRONG: SIZE, WEAK: SIZE}
    labels = desk.labels().join(table(ROWS).select(query_id="id", gold="answer"), on="query_id")
    assert (labels["reference"] == labels["gold"]).all()
    right = labels["gold"] == "strong has  thought about it."
    assert labels["strong_score"].to_list() == right.cast(pl.Float64).to_list()
    assert set(labels["weak_score"]) == {0.0}
    assert labels["winner"].cast(pl.String).to_list() == ["model_a" if one else "tie" for one in right]
    assert set(labels["label_kind"].cast(pl.String)) == {"golden"}
    assert (summary["orders"], labels["judge_model"].count(), labels["judge_cost_usd"].sum()) == (None, 0, 0)


def test_a_row_without_a_reference_fails_and_is_kept(tmp_path: Path, server: Server) -> None:
    queries = table(6).with_columns(answer=pl.when(pl.col("id") == "q0002").then(pl.lit(" ")).otherwise("answer"))
    desk = write_label(tmp_path / "desk", queries, server.base_url, size=6)
    summary = told(desk, 1, "--golden", "answer")
    assert summary["errors"] == {"no_reference": 1}
    assert desk.labels().filter(error_code="no_reference").select("query_id", "winner").rows() == [("q0002", None)]


# ---- money ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_makes_no_call_and_binds_nobody(desk: LabelDesk, server: Server) -> None:
    since = server.mark()
    summary = told(desk, 0, "--dry-run")
    assert summary["calls"] == {"strong": SIZE, "weak": SIZE, "judge": 2 * SIZE}
    again = told(desk, 0, "--dry-run", "--set", "sample.size=10", "--set", "models.judge.name=other")
    assert (again["rows"], again["cost_usd"]) == ({"sampled": 10}, None)  # `other` has no price
    assert server.received(since) == 0
    assert not desk.output.exists()
    assert told(desk, 1, "--set", "sample.size=12")["rows"]["sampled"] == 12  # type: ignore[index]
    assert desk.labels().height == 12


def test_the_expected_cost_is_near_the_real_one(desk: LabelDesk) -> None:
    expected = told(desk, 0, "--dry-run")["cost_usd"]
    assert isinstance(expected, dict)
    spent = Decimal(str(told(desk, 1)["spent_usd"]))
    assert Decimal(expected["low"]) < spent < Decimal(expected["high"])


def test_a_budget_stops_the_run_and_more_money_goes_on(desk: LabelDesk, server: Server) -> None:
    since = server.mark()
    plan = told(desk, 0, "--dry-run")["cost_usd"]
    assert isinstance(plan, dict)
    limit = Decimal(plan["expected"]) / 2
    stopped = nightroute("label", "--config", str(desk.config), "--max-usd", str(limit))
    assert_told(stopped, 75, f"the budget of ${limit} is reached")
    booked = asked(server, since)["cost_usd"].sum()
    assert 0 < booked <= limit
    assert not desk.output.exists()
    summary = told(desk, 1, "--max-usd", "1")
    requests = asked(server, since)
    assert requests.height == 4 * SIZE == requests["client_request_id"].n_unique()
    assert Decimal(str(summary["spent_usd"])) == requests["cost_usd"].sum()


def test_what_was_not_sent_can_be_published_and_finished_later(desk: LabelDesk, server: Server) -> None:
    since = server.mark()
    plan = told(desk, 0, "--dry-run")["cost_usd"]
    assert isinstance(plan, dict)
    limit = str(Decimal(plan["expected"]) / 2)
    summary = told(desk, 1, "--max-usd", limit, "--publish-unsent")
    unsent = desk.labels().filter(pl.col("status") == "unsent")
    assert summary["rows"]["unsent"] == unsent.height > 0  # type: ignore[index]
    assert unsent["winner"].count() == 0
    assert desk.labels().height == SIZE
    assert told(desk, 1)["revision"] == 2
    assert desk.labels().filter(pl.col("status") == "unsent").is_empty()
    assert asked(server, since).height == 4 * SIZE


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_bad_night_loses_no_row_and_books_every_cent(tmp_path: Path) -> None:
    faults = "rate_500 = 0.1\nrate_content_filter = 0.15\nrate_empty = 0.05"
    with judging(tmp_path / "sandbox", faults=faults) as sandbox:
        desk = write_label(
            tmp_path / "desk", table(ROWS), sandbox.base_url, size=SIZE,
            extra="[dispatch]\nbackoff_initial_s = 0.01\nbackoff_max_s = 0.02",
        )  # fmt: skip
        summary = told(desk, 1)
        requests, labels = asked(sandbox), desk.labels()
    assert Decimal(str(summary["spent_usd"])) == requests["cost_usd"].sum() == labels["cost_usd"].sum()
    assert labels["attempts"].sum() == requests.height > 3 * SIZE
    assert labels["query_id"].n_unique() == SIZE
    unanswered = pl.col("answer_a").is_null() | pl.col("answer_b").is_null()
    assert 0 < labels.filter(unanswered).height < SIZE
    assert labels.filter(unanswered)["judge_cost_usd"].sum() == 0  # the judge was not asked
    said = labels.filter(unanswered).select(
        told=pl.col("error_message").str.extract(r"^(\w+): "),
        role=pl.when(pl.col("answer_a").is_null()).then(pl.lit("strong")).otherwise(pl.lit("weak")),
    )
    assert said["told"].to_list() == said["role"].to_list()
    judged = labels.filter(~unanswered)
    assert judged.filter(pl.any_horizontal(pl.col("verdict_ab", "verdict_ba").is_null()))["winner"].count() == 0
    assert judged["winner"].count() == (judged["status"] == "ok").sum() > 0
    assert labels.filter(~unanswered)["attempts"].min() == 4


def test_failed_calls_are_sent_again_when_asked_for(tmp_path: Path) -> None:
    refused = {"Question 1 ", "Question 3 "}  # of the weak model, each once

    def status(body: Any) -> int:
        found = [words for words in refused if body["model"] == WEAK and words in str(body["messages"])]
        refused.difference_update(found)
        return 400 if found else 200

    with recording(status) as (base_url, bodies):
        queries = table(5).with_columns(answer=pl.lit("paris."))
        desk = write_label(tmp_path / "desk", queries, base_url, size=5)
        assert told(desk, 1, "--golden", "answer")["errors"] == {"bad_request": 2}
        assert len(bodies) == 10
        summary = told(desk, 0, "--golden", "answer", "--retry-failed")
        assert len(bodies) == 12
        assert (summary["revision"], summary["winners"]) == (2, {"model_a": 0, "model_b": 0, "tie": 5})
        assert_told(nightroute("label", "--config", str(desk.config), "--golden", "answer"), 99, "is finished and")


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ("sample.seed=4", "sample_seed: was 3, is 4"),
        ("models.judge.params.temperature=1", "judge.params.temperature: was null, is 1"),
        ("judge.system=", "system_template_sha256: was "),
        ("golden.column=answer", "golden_column: was null"),
    ],
)
def test_a_run_that_has_spent_refuses_another_config_and_names_it(
    desk: LabelDesk, change: str, needle: str, server: Server
) -> None:
    told(desk, 1, "--set", "sample.size=7")
    since = server.mark()
    ended = nightroute("label", "--config", str(desk.config), "--set", "sample.size=7", "--set", change)
    assert_told(ended, 78, "was started with something else", needle, "run_dir of its own")
    assert server.received(since) == 0


def test_a_changed_template_is_named(desk: LabelDesk) -> None:
    template = desk.folder / "mine.txt"
    template.write_text("{question} <answer_a> {answer_a} <answer_b> {answer_b}", encoding="utf-8")
    args = ("--set", "judge.template=mine.txt", "--set", "sample.size=7")
    told(desk, 1, *args)
    template.write_text("{question}! <answer_a> {answer_a} <answer_b> {answer_b}", encoding="utf-8")
    assert_told(nightroute("label", "--config", str(desk.config), *args), 78, "template_sha256: was ")


@pytest.mark.parametrize(
    ("args", "exit_code", "needle"),
    [
        (["--set", "sample.stratify=nope"], 65, "sample.stratify names 'nope', which the input does not hold"),
        (["--golden", "nope"], 65, "golden.column names 'nope'"),
        (["--set", "input.drop=['answer']", "--golden", "answer"], 65, "and input.drop leaves it out"),
        (["--set", "input.path=nowhere.parquet"], 66, "matches no Parquet file"),
        (
            ["--set", "models.judge.api_key_env=NO_SUCH_KEY"],
            78,
            "models.judge (judge-1) needs the environment variable",
        ),
        (["--set", "output.path=label.parquet/"], 78, "must name a Parquet file"),
    ],
)
def test_what_cannot_be_done_is_told_before_a_call(
    desk: LabelDesk, server: Server, args: list[str], exit_code: int, needle: str
) -> None:
    since = server.mark()
    assert_told(nightroute("label", "--config", str(desk.config), *args), exit_code, needle)
    assert server.received(since) == 0


def test_a_file_of_somebody_else_is_not_overwritten(desk: LabelDesk, server: Server) -> None:
    since = server.mark()
    pl.DataFrame({"mine": [1]}).write_parquet(desk.output)
    assert_told(nightroute("label", "--config", str(desk.config)), 78, "already holds something else")
    assert pl.read_parquet(desk.output).columns == ["mine"]
    assert server.received(since) == 0


def test_labels_are_no_input_of_the_next_run(desk: LabelDesk, server: Server) -> None:
    since = server.mark()
    for pattern in ("*.parquet", "queries.parquet"):
        args = ["--set", f"input.path={pattern}", "--set", f"output.path={pattern.replace('*', 'more')}"]
        assert_told(nightroute("label", "--config", str(desk.config), *args), 78, "would be read as input by the next")
    assert server.received(since) == 0


def test_a_budget_needs_prices(desk: LabelDesk, server: Server) -> None:
    since = server.mark()
    args = ["--set", "models.judge.name=other", "--max-usd", "1"]
    assert_told(nightroute("label", "--config", str(desk.config), *args), 78, "cannot hold a model without a price")
    assert told(desk, 0, *args, "--dry-run")["cost_usd"] is None
    assert server.received(since) == 0


def test_a_run_that_stopped_before_its_first_call_begins_anew(desk: LabelDesk) -> None:
    told(desk, 0, "--dry-run")
    Ledger(desk.run_dir / "ledger" / "ledger.sqlite").close()
    assert told(desk, 1, "--set", "sample.size=7", "--set", "sample.seed=9")["rows"]["sampled"] == 7  # type: ignore[index]


def test_labelling_runs_and_nights_are_told_apart(desk: LabelDesk) -> None:
    told(desk, 0, "--dry-run")
    for command in ("status", "resume"):
        assert_told(nightroute(command, str(desk.run_dir)), 78, "is a labelling run; go on with: nightroute label")
    (desk.run_dir / "config.json").write_text("{}", encoding="utf-8")
    assert_told(nightroute("label", "--config", str(desk.config)), 78, "is a nightly run")


def test_nothing_to_label(tmp_path: Path, server: Server) -> None:
    blank = table(3).with_columns(question=pl.lit(" "))
    desk = write_label(tmp_path / "desk", blank, server.base_url, size=3)
    assert_told(nightroute("label", "--config", str(desk.config)), 99, "no query is left to label")
