"""A budget spent in the order of the gain per dollar: planned, run, resumed, cut anew; every number from outside."""

import math
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.desk import Desk, assert_told
from tests.e2e.harness import STRONG, WEAK, Server
from tests.fakes import save_adding_router, write_card

RATES = {STRONG: (Decimal(200), Decimal(8)), WEAK: (Decimal("0.1"), Decimal("0.4"))}
"""USD per million input and output tokens: long prompts are dear on the strong model."""
LENGTHS = {STRONG: 100, WEAK: 40}
FRAMING = 7
CALIBRATION = {
    "method": "platt", "labels_sha256": "0" * 64, "n": 500, "ece_before": 0.1, "ece_after": 0.02,
    "log_loss_before": 0.7, "log_loss_after": 0.6, "parity_max_error": 0.0, "base_sha256": "0" * 64,
}  # fmt: skip


def numbers() -> pl.DataFrame:
    """Prompts of numbers that the adding router adds up: win rates of .45 to .9, one to eight tokens long."""
    sums = [450 + 15 * i for i in range(31)]
    words = [1 + (7 * i) % 8 for i in range(31)]
    texts = [" ".join([str(total - (n - 1)), *["1"] * (n - 1)]) for total, n in zip(sums, words, strict=True)]
    return pl.DataFrame({"id": [f"q{i:02d}" for i in range(31)], "text": texts})


def costs(tokens: int, lengths: dict[str, float]) -> dict[str, Decimal]:
    """Expected cost of one query on either model, in plain Python."""
    return {
        model: (tokens * rates[0] + math.ceil(lengths[model]) * rates[1]) / 1_000_000 for model, rates in RATES.items()
    }


def in_order(queries: pl.DataFrame) -> list[tuple[str, float, Decimal, Decimal]]:
    """(id, gain per dollar, extra cost, all-weak cost) of the queries that gain, the most gain a dollar first."""
    rows = []
    for query_id, text in queries.iter_rows():
        words = [int(word) for word in text.split()]
        usd = costs(len(words) + FRAMING, dict(LENGTHS))
        gain, extra = 2 * sum(words) / 1000 - 1, usd[STRONG] - usd[WEAK]
        if gain > 0:
            rows.append((query_id, gain / float(extra), extra, usd[WEAK]))
    return sorted(rows, key=lambda row: -row[1])


@pytest.fixture
def priced(night: Desk) -> Desk:
    """A night with prices, a calibrated router, and numbers to add up."""
    night.put(numbers())
    save_adding_router(night.folder / "router", head=8, tail=0)
    with_calibration(night)
    prices = [
        {"model": model, "input_usd_per_mtok": str(rate[0]), "output_usd_per_mtok": str(rate[1])}
        for model, rate in RATES.items()
    ]
    night.config.update(
        {
            "router.artifact": "router",
            "prices": prices,
            "input.part_rows": 10,
            "split.strong_share": None,
            "split.order": "gain_per_usd",
            "budget.max_usd": "1",
            "models.strong.expected_output_tokens": LENGTHS[STRONG],
            "models.weak.expected_output_tokens": LENGTHS[WEAK],
        }
    )
    return night


def with_calibration(night: Desk) -> None:
    write_card(night.folder / "router", truncation={"head": 8, "tail": 0}, calibration=CALIBRATION)


def budget(queries: pl.DataFrame, n_strong: int) -> Decimal:
    """The very cost of the first `n_strong` queries of the order on the strong model."""
    all_weak = sum((costs(len(text.split()) + FRAMING, dict(LENGTHS))[WEAK] for text in queries["text"]), Decimal(0))
    return all_weak + sum((row[2] for row in in_order(queries)[:n_strong]), Decimal(0))


def strong_ids(night: Desk) -> set[str]:
    return set(night.published().filter(route="strong")["query_id"])


def test_a_night_by_gain_per_dollar(priced: Desk, sandbox: Server) -> None:
    queries = numbers()
    order = in_order(queries)
    usd = budget(queries, 9)
    priced.write_config(split__max_usd=str(usd))
    since = sandbox.mark()

    plan = priced.run(command="plan")
    assert plan.exit_code == 0, plan.stderr
    assert "min_gain_per_usd" in plan.stderr
    assert f"answers of {STRONG}: 100.0 tokens (assumed)" in plan.stderr
    assert "was not calibrated" not in plan.stderr
    split = plan.summary["split"]
    assert (split["order"], split["alpha"], split["n_strong"]) == ("gain_per_usd", None, 9)
    assert split["min_gain_per_usd"] == pytest.approx(order[8][1])
    assert Decimal(split["expected_usd"]) == usd
    assert Decimal(plan.summary["cost_usd"]["expected"]) == usd
    assert sandbox.received(since) == 0

    ended = priced.run()
    assert ended.exit_code == 0, ended.stderr
    assert strong_ids(priced) == {row[0] for row in order[:9]}
    assert (ended.summary["alpha"], ended.summary["min_gain_per_usd"]) == (None, split["min_gain_per_usd"])
    assert sandbox.requests(since).filter(model=STRONG).height == 9
    assert priced.manifest()["split"]["order"] == "gain_per_usd"
    # Plain alpha would have sent others: some with a higher win rate cost too much.
    table = priced.published()
    assert strong_ids(priced) != set(table.sort("win_rate", descending=True).head(9)["query_id"])
    # The published alpha is each query's own: strong where the win rate reaches it.
    above = (pl.col("win_rate") >= pl.col("alpha") - 1e-9) & (pl.col("win_rate") > 0.5)
    assert table.select(((pl.col("route") == "strong") == above).all()).item()
    assert priced.of_run("status").summary["state"] == "published"


def test_a_resume_sends_what_the_run_would_have_sent(priced: Desk, sandbox: Server) -> None:
    usd = str(budget(numbers(), 12))
    priced.write_config(split__max_usd=usd)
    assert priced.run("--max-usd", "0.000001").exit_code == 75
    # What answers are taken to be long may change between two calls; the split keeps what it was made with.
    priced.write_config(split__max_usd=usd, models__strong__expected_output_tokens=7)
    since = sandbox.mark()
    ended = priced.run()
    assert ended.exit_code == 0, ended.stderr
    assert strong_ids(priced) == {row[0] for row in in_order(numbers())[:12]}
    assert sandbox.received(since) == 31


def test_queries_without_a_gain_stay_weak_whatever_money_is_left(priced: Desk) -> None:
    priced.write_config(split__max_usd="0.9")
    assert priced.run().exit_code == 0
    table = priced.published()
    assert table.select(((pl.col("route") == "strong") == (pl.col("win_rate") > 0.5)).all()).item()
    assert 0 < len(strong_ids(priced)) < 31


def test_resplit_keeps_the_order_and_reuses_answers(priced: Desk, sandbox: Server) -> None:
    queries = numbers()
    order = in_order(queries)
    priced.write_config(split__max_usd=str(budget(queries, 6)))
    assert priced.run().exit_code == 0
    since = sandbox.mark()
    more = priced.of_run("resplit", "--split-usd", str(budget(queries, 8)))
    assert more.exit_code == 0, more.stderr
    assert strong_ids(priced) == {row[0] for row in order[:8]}
    assert sandbox.requests(since)["model"].to_list() == [STRONG] * 2
    plain = priced.of_run("resplit", "--split-usd", str(budget(queries, 8)), "--order", "win_rate")
    assert plain.exit_code == 0, plain.stderr
    assert plain.summary["alpha"] is not None
    back = priced.of_run("resplit", "--split-usd", str(budget(queries, 6)), "--order", "gain_per_usd")
    assert strong_ids(priced) == {row[0] for row in order[:6]}
    assert back.summary["revision"] == 4
    assert_told(priced.of_run("resplit", "--strong-share", "0.5", "--order", "gain_per_usd"), 78, "spends a budget")
    share = priced.of_run("resplit", "--strong-share", "0.5")
    assert (share.exit_code, share.summary["rows"]["strong"]) == (0, 16)


def test_another_order_or_budget_is_another_split(priced: Desk) -> None:
    usd = str(budget(numbers(), 6))
    priced.write_config(split__max_usd=usd)
    assert priced.run(command="plan").exit_code == 0
    priced.write_config(split__max_usd=usd, split__order="win_rate")
    needles = (f"was split by max_usd = {usd} in the order of gain_per_usd, the config now says max_usd = {usd};",)
    assert_told(priced.run(), 78, *needles, f"nightroute resplit {priced.run_dir}")


def test_costs_that_changed_under_a_run_are_noticed(priced: Desk) -> None:
    """Who bills may change between two calls: here to a provider that the prices do not hold for."""
    usd = str(budget(numbers(), 6))
    prices = [{**price, "provider": "openai"} for price in priced.config["prices"]]
    given = {"split__max_usd": usd, "prices": prices, "models__weak__provider": "openai"}
    priced.write_config(**given, models__strong__provider="openai")
    assert priced.run(command="plan").exit_code == 0
    priced.write_config(**given, models__strong__provider="openrouter")
    assert_told(
        priced.run(), 78, "in the order of gain_per_usd with 6 strong queries", "put `provider` of the models back"
    )


def test_a_router_that_was_not_calibrated_is_warned_of(priced: Desk) -> None:
    write_card(priced.folder / "router", truncation={"head": 8, "tail": 0})
    priced.write_config(split__max_usd="0.9")
    ended = priced.run(command="plan")
    assert ended.exit_code == 0, ended.stderr
    assert "was not calibrated on your labels; `nightroute calibrate` writes one that is" in ended.stderr


def test_a_budget_by_gain_needs_prices(priced: Desk) -> None:
    priced.write_config(split__max_usd="0.9", prices=[priced.config["prices"][0]], models__weak__name="nobody")
    assert_told(priced.run(command="plan"), 78, "max_usd = 0.9 needs prices for both models, but ['weak_usd']")


@pytest.mark.parametrize("split", ["strong_share = 0.5", "alpha = 0.5"])
def test_the_order_spends_a_budget_and_nothing_else(desk: Desk, split: str) -> None:
    name, _, value = split.partition(" = ")
    desk.put(numbers())
    desk.write_config(**{"split__strong_share": None, f"split__{name}": float(value), "split__order": "gain_per_usd"})
    assert_told(desk.run(), 78, f"split: order = 'gain_per_usd' spends a budget: give max_usd instead of {name}")


# ---- history --------------------------------------------------------------------------------------------------------


def history(path: Path, *, model: str, power: float) -> None:
    """Answers of 3 * prompt ** power tokens, 40 lengths."""
    asked = list(range(10, 50))
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        {
            "requested_model": pl.Series([model] * 40, dtype=pl.Categorical),
            "input_tokens": asked,
            "output_tokens": [round(3 * tokens**power) for tokens in asked],
            "day": ["2026-11-01"] * 40,
        }
    ).write_parquet(path)


def test_answers_paid_for_before_say_how_long_answers_are(priced: Desk) -> None:
    past = priced.folder / "past"
    history(past / "day=2026-11-01" / "part-0.parquet", model=STRONG, power=0.5)
    history(past / "day=2026-11-02" / "part-0.parquet", model="another", power=1.0)
    (past / "_manifest.json").write_text("{}", encoding="utf-8")
    priced.write_config(split__max_usd="0.9", split__history="past")
    ended = priced.run(command="plan")
    assert ended.exit_code == 0, ended.stderr
    lengths = ended.summary["split"]["answer_lengths"]
    assert lengths["strong"]["power"] == pytest.approx(0.5, abs=0.05)
    assert lengths["strong"]["answers"] == 40
    assert lengths["weak"] == {"scale": 40.0, "power": 0.0, "answers": 0}
    assert "(fitted on 40 answers)" in ended.stderr
    # The expected bill is that of the fitted lengths.
    law = lengths["strong"]
    expected = Decimal(0)
    for text in numbers()["text"]:
        tokens = len(text.split()) + FRAMING
        written = round(law["scale"] * tokens ** law["power"], 6)
        expected += costs(tokens, {STRONG: written, WEAK: LENGTHS[WEAK]})[STRONG]
    assert Decimal(ended.summary["all_strong_usd"]["expected"]) == expected


def test_history_serves_every_split_and_the_first_night_has_none(priced: Desk) -> None:
    priced.write_config(split__order=None, split__strong_share=0.5, split__history="answers/**/*.parquet")
    first = priced.run(command="plan")
    assert first.exit_code == 0, first.stderr
    assert first.summary["split"]["answer_lengths"] == {}
    assert priced.run().exit_code == 0
    priced.write_config(split__order=None, split__strong_share=0.5, split__history="answers", run_dir="next")
    second = priced.run(command="plan")
    assert second.exit_code == 0, second.stderr
    lengths = second.summary["split"]["answer_lengths"]
    table = priced.published()
    for side, model in (("strong", STRONG), ("weak", WEAK)):
        rows = table.filter(requested_model=model)
        assert lengths[side]["answers"] == rows.height
        if rows.height < 30:
            assert lengths[side]["scale"] == pytest.approx(rows["output_tokens"].to_numpy().mean())


def test_a_history_of_something_else_is_refused(priced: Desk) -> None:
    numbers().write_parquet(priced.folder / "past.parquet")
    priced.write_config(split__max_usd="0.9", split__history="past.parquet")
    assert_told(priced.run(command="plan"), 65, "split.history", "past.parquet cannot be read", "['requested_model',")
    words = {"requested_model": [STRONG], "input_tokens": ["12"], "output_tokens": ["many"]}
    pl.DataFrame(words).write_parquet(priced.folder / "past.parquet")
    assert_told(priced.run(command="plan"), 65, "split.history", "past.parquet cannot be read", "many")


@pytest.mark.parametrize("path", ["answer", "answer/*.parquet", "past.parquet", "empty"])
def test_a_history_that_is_not_there_is_told(priced: Desk, path: str) -> None:
    (priced.folder / "empty").mkdir()
    priced.write_config(split__max_usd="0.9", split__history=path)
    assert_told(priced.run(command="plan"), 66, "split.history: nothing at", "name published tables")


def test_a_folder_of_history_may_be_called_anything(priced: Desk) -> None:
    history(priced.folder / "past [1]" / "part-0.parquet", model=STRONG, power=0.5)
    priced.write_config(split__max_usd="0.9", split__history="past [1]")
    ended = priced.run(command="plan")
    assert ended.exit_code == 0, ended.stderr
    assert ended.summary["split"]["answer_lengths"]["strong"]["answers"] == 40
