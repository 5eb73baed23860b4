"""`nightroute calibrate` from the command line: alphas that hold in a job, answers where there is none."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs import calibrate
from routing.artifact import load
from schemas.calibration import CalibrationReport
from tests.e2e.desk import Desk, assert_told, nightroute, toml
from tests.e2e.harness import STRONG, WEAK, Ended
from tests.fakes import save_adding_router, save_embedding_router

RATES = {STRONG: (Decimal(2), Decimal(8)), WEAK: (Decimal("0.1"), Decimal("0.4"))}
PRICES = [
    {"model": model, "input_usd_per_mtok": str(rate[0]), "output_usd_per_mtok": str(rate[1])}
    for model, rate in RATES.items()
]
MODELS = {
    "models.strong": {"name": STRONG, "base_url": "http://127.0.0.1:9/v1", "expected_output_tokens": 100},
    "models.weak": {"name": WEAK, "base_url": "http://127.0.0.1:9/v1", "expected_output_tokens": 40},
}


def drawn(n: int, *, seed: int) -> pl.DataFrame:
    """Prompts for the adding router, win rates of .3 to .9, and who won: the strong model with that chance.

    A word that is no number adds nothing, and makes the prompt another.
    """
    rng = np.random.default_rng(seed)
    rates = rng.integers(300, 900, n)
    won = rng.random(n) < rates / 1000
    return pl.DataFrame(
        {
            "id": [f"q{i}" for i in range(n)],
            "text": [f"{rate} x{i}" for i, rate in enumerate(rates)],
            "model_a": ["big"] * n,
            "model_b": ["small"] * n,
            "winner": ["model_a" if one else "model_b" for one in won],
        }
    )


@pytest.fixture
def bench(desk: Desk) -> Desk:
    """A desk with a router, a table of 600 queries and 2,000 labels."""
    save_adding_router(desk.folder / "router")
    desk.put(drawn(600, seed=1).select("id", "text"))
    drawn(2_000, seed=2).write_parquet(desk.folder / "labels.parquet")
    return desk


def calibrated(desk: Desk, *args: str, **keys: Any) -> Ended:
    values: dict[str, Any] = {
        "router.artifact": "router",
        "labels.path": "labels.parquet",
        "labels.columns": {"prompt": "text"},
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    lines = [f"{key} = {toml(value)}" for key, value in values.items() if value is not None]
    (desk.folder / "calibrate.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return nightroute("calibrate", "--config", str(desk.folder / "calibrate.toml"), *args)


def report(desk: Desk) -> CalibrationReport:
    return CalibrationReport.model_validate_json((desk.folder / "calibration.json").read_bytes())


INPUT = {"input.path": "data", "input.columns": {"query_id": "id", "prompt": "text"}}


def test_an_alpha_for_a_share_and_one_for_a_budget_hold_in_the_job(bench: Desk) -> None:
    ended = calibrated(
        bench, **INPUT, **MODELS, prices=PRICES, labels__path=None, labels__columns=None,
        target={"strong_share": 0.3, "max_usd": "0.2"},
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    found = report(bench)
    assert found.strong_share is not None
    assert found.max_usd is not None
    assert (found.input_rows, found.label_rows, found.pgr, found.calibration) == (600, None, None, None)
    assert ended.summary == {
        "job": "calibrate", "status": "calibrated", "exit_code": 0, "output": str(bench.folder / "calibration.json"),
        **json.loads((bench.folder / "calibration.json").read_text(encoding="utf-8")),
    }  # fmt: skip
    for target, alpha in (
        ("strong_share = 0.3", found.strong_share.alpha),
        ("max_usd = 0.2 for 600", found.max_usd.alpha),
    ):
        assert f"alpha = {alpha!r}  # {target}" in ended.stderr

    bench.write_config(router__artifact="router", split__strong_share=None, split__alpha=found.strong_share.alpha)
    plan = bench.run(command="plan").summary
    assert plan["rows"]["strong"] / 600 == pytest.approx(found.strong_share.strong_share.value)
    assert plan["rows"]["strong"] == pytest.approx(180, abs=2)

    models = {f"{side}.expected_output_tokens": MODELS[side]["expected_output_tokens"] for side in MODELS}
    bench.config.update(models)
    bench.write_config(
        router__artifact="router",
        split__strong_share=None,
        split__alpha=found.max_usd.alpha,
        prices=PRICES,
        run_dir="other",
    )
    plan = bench.run(command="plan").summary
    assert Decimal(plan["cost_usd"]["expected"]) == found.max_usd.expected_usd <= Decimal("0.2")


def test_a_quality_target_with_confidence(bench: Desk) -> None:
    ended = calibrated(bench, target={"pgr": 0.6, "confidence": 0.9})
    assert ended.exit_code == 0, ended.stderr
    found = report(bench).pgr
    assert found is not None
    assert found.alpha is not None
    assert found.strong_share is not None
    # E[gain | w] = 2 w - 1, w uniform on .3 to .9: all strong gains .2, and from alpha on (.81 - a^2 - .9 + a) / .6.
    reached = (0.81 - found.alpha**2 - 0.9 + found.alpha) / 0.6 / 0.2
    assert 0.6 <= reached < 1.0
    assert found.alpha > 0.5
    assert (found.n, found.decided, found.wanted, found.confidence) == (
        report(bench).label_rows, found.n, 0.6, 0.9,
    )  # fmt: skip
    assert "pgr 0.6 with confidence 0.9: alpha" in ended.stderr
    assert "# pgr >= 0.6, 90% sure" in ended.stderr
    again = calibrated(bench, "--set", "target.pgr=0.95", target={"pgr": 0.6, "confidence": 0.9})
    assert again.summary["pgr"]["alpha"] < found.alpha


def test_labels_that_support_nothing_are_an_answer(bench: Desk) -> None:
    few = drawn(30, seed=2).with_columns(winner=pl.Series(["model_a"] * 17 + ["model_b"] * 13))
    few.write_parquet(bench.folder / "labels.parquet")
    ended = calibrated(bench, target={"pgr": 0.8})
    assert ended.exit_code == 0, ended.stderr
    needed = ended.summary["pgr"]["labels_needed"]
    assert ended.summary["pgr"]["alpha"] is None
    assert "no alpha, not even all strong, is supported by 30 labels (30 decided)" in ended.stderr
    assert f"about {needed:,} labels would show" in ended.stderr
    assert "alpha =" not in ended.stderr
    losing = drawn(500, seed=3).with_columns(winner=pl.lit("model_b"))
    losing.write_parquet(bench.folder / "labels.parquet")
    ended = calibrated(bench, target={"pgr": 0.8})
    assert ended.summary["pgr"]["labels_needed"] is None
    assert "the strong model is not better, so there is no gap to recover" in ended.stderr


def test_without_a_table_the_labelled_prompts_are_one(bench: Desk) -> None:
    ended = calibrated(bench, target={"strong_share": 0.5})
    assert ended.exit_code == 0, ended.stderr
    assert ended.summary["input_rows"] is None
    share = ended.summary["strong_share"]
    assert share["n"] == ended.summary["label_rows"]
    assert share["next_table"]["low"] < share["strong_share"]["low"] < 0.5 < share["strong_share"]["high"]


def test_one_date_of_a_table_is_read(bench: Desk) -> None:
    table = drawn(600, seed=1).select("id", "text")
    for day, rows in (("2026-11-01", table.head(100)), ("2026-11-02", table.tail(500))):
        bench.put(rows, f"day={day}/part.parquet")
    (bench.data / "in.parquet").unlink()
    ended = calibrated(bench, "--date", "2026-11-01", **INPUT, input__date_column="day", target={"strong_share": 0.5})
    assert ended.summary["input_rows"] == 100


def test_a_router_that_starts_at_embeddings_takes_win_rates_that_were_bought(bench: Desk) -> None:
    save_embedding_router(bench.folder / "bought")
    assert_told(
        calibrated(bench, router__artifact="bought", target={"pgr": 0.5}), 78, "starts at embeddings that are bought",
        "map labels.columns.win_rate",
    )  # fmt: skip
    assert_told(
        calibrated(bench, router__artifact="bought", **INPUT, target={"strong_share": 0.5}),
        78,
        "nightroute plan --embed",
    )
    labels = drawn(2_000, seed=2).with_columns(rate=pl.col("text").str.head(3).cast(pl.Float64) / 1000)
    labels.write_parquet(bench.folder / "labels.parquet")
    columns = {"prompt": "text", "win_rate": "rate"}
    given = calibrated(bench, router__artifact="bought", labels__columns=columns, target={"pgr": 0.6})
    assert given.exit_code == 0, given.stderr
    assert given.summary["pgr"] == calibrated(bench, target={"pgr": 0.6}).summary["pgr"]


@pytest.mark.parametrize("name", ["router", "./router/", "linked"])
def test_the_router_that_is_calibrated_is_not_written_over(bench: Desk, name: str) -> None:
    (bench.folder / "linked").symlink_to("router")
    before = load(bench.folder / "router").sha256
    ended = calibrated(bench, calibration={"output": name})
    assert_told(ended, 78, "is the router that is calibrated, which stays as it is; name another folder")
    assert load(bench.folder / "router").sha256 == before


def test_a_promise_without_an_estimate_is_told(bench: Desk) -> None:
    """The bet is won on the first labels that it sees, and all later ones are lost."""
    order = np.random.default_rng(0).permutation(61)
    won = np.full(61, "model_b", dtype=object)
    won[order[:30]] = "model_a"
    drawn(61, seed=2).with_columns(winner=pl.Series(won.tolist())).write_parquet(bench.folder / "labels.parquet")
    ended = calibrated(bench, target={"pgr": 0.5, "confidence": 0.6})
    assert ended.exit_code == 0, ended.stderr
    assert ended.summary["pgr"]["alpha"] is not None
    assert ended.summary["pgr"]["pgr"] is None
    assert "estimated PGR at this alpha: none, over all these labels the strong model is not better" in ended.stderr
    assert "alpha = " in ended.stderr


def test_without_onnx_a_calibrated_copy_is_refused_with_the_remedy(
    bench: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "find_spec", lambda name: None)
    ended = calibrated(bench, calibration={"output": "copy"})
    assert_told(ended, 78, "which needs onnx, not installed here", "pip install 'nightroute[train]'")
    assert not (bench.folder / "copy").exists()


@pytest.mark.parametrize(
    ("keys", "code", "needle"),
    [
        ({"target": {}}, 78, "nothing is asked for"),
        ({"target": {"pgr": 0.5}, "labels.path": "none.parquet"}, 66, "none.parquet is missing"),
        ({"target": {"pgr": 0.5}, "labels.columns": {"prompt": "question"}}, 65, "columns maps to ['question']"),
        ({"target": {"pgr": 0.5}, "labels.strong": "x", "labels.weak": "y"}, 65, "no battle is between 'x' and 'y'"),
        ({"target": {"strong_share": 0.5}, "input.path": "nowhere"}, 66, "nowhere"),
        ({"target": {"pgr": 0.5}, "router.artifact": "no-router"}, 78, "has no readable router.json"),
    ],
)
def test_what_is_wrong_is_told(bench: Desk, keys: dict[str, Any], code: int, needle: str) -> None:
    assert_told(calibrated(bench, **keys), code, needle)
    assert not (bench.folder / "calibration.json").exists()


def test_a_table_without_a_query_is_told(bench: Desk) -> None:
    bench.put(pl.DataFrame({"id": ["a"], "text": [" "]}))
    assert_told(
        calibrated(bench, **INPUT, target={"strong_share": 0.5}), 65, "none of 1 rows is a query; check the columns"
    )


def test_nothing_is_left_beside_the_report(bench: Desk) -> None:
    before = {path.name for path in bench.folder.iterdir()}
    assert calibrated(bench, target={"strong_share": 0.5}, output={"path": "reports/november.json"}).exit_code == 0
    assert {path.name for path in bench.folder.iterdir()} - before == {"calibrate.toml", "reports"}
    assert [path.name for path in Path(bench.folder / "reports").iterdir()] == ["november.json"]
