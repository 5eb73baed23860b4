"""Our reading of RouteLLM's ten bins against its formulas, re-derived here, and against its own evaluation code.

Their code is routellm 0.2.0, `evals/benchmarks.py` and `evals/evaluate.py`, in its own environment. What it imports but
does not need for the metrics (its controller, plots, process pools) is replaced by empty modules.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from routing.errors import DataError
from routing.metrics import cost_quality_curve
from routing.routellm_metrics import routellm_curve

PEER = Path(os.environ.get("NIGHTROUTE_PEERS", Path(__file__).parents[2] / ".venv-peers")) / "bin" / "python"
STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
PGRS = (0.2, 0.5, 0.8)

SCRIPT = """
import json, sys, types
from unittest.mock import MagicMock

given = json.load(sys.stdin)
for name in ("matplotlib", "matplotlib.pyplot", "pandarallel", "psutil", "tqdm", "yaml",
             "routellm.controller", "routellm.routers", "routellm.routers.routers"):
    sys.modules[name] = MagicMock()
import numpy as np
import pandas as pd
np.trapz = getattr(np, "trapz", None) or np.trapezoid  # gone from the numpy of today
import routellm.evals.benchmarks as benchmarks
import routellm.evals.evaluate as evaluate

pair = types.SimpleNamespace(strong=given["strong"], weak=given["weak"])
found, interp = [], np.interp


def case(kind, rates, strong, weak):
    benchmark = getattr(benchmarks, kind).__new__(getattr(benchmarks, kind))
    benchmark.routed_pair, benchmark.overwrite_cache, benchmark.cache = pair, [], {"r": np.array(rates)}
    if kind == "MTBench":
        ids = range(len(rates))
        benchmark.questions = pd.DataFrame({"question_id": ids, "turns": [["a", "b"]] * len(rates)})
        benchmark.judgements = pd.DataFrame(
            [(i, model, turn) for model, scores in ((pair.strong, strong), (pair.weak, weak))
             for i in ids for turn in scores[i]],
            columns=["question_id", "model", "score"],
        )
    else:
        benchmark.all_data = pd.DataFrame({pair.strong: np.array(strong, bool), pair.weak: np.array(weak, bool)})
    rows = []
    for threshold, accuracy, counts, total in benchmark.evaluate(None, "r", 10, False):
        rows.append({"method": "r", "threshold": threshold, "accuracy": accuracy,
                     "strong_percentage": counts[pair.strong] / total * 100})
    printed, cpts = [], []
    evaluate.print = lambda *parts: printed.append(parts[-1])  # the table that it prints, before it is rounded
    np.interp = lambda *inputs: cpts.append(float(interp(*inputs))) or cpts[-1]
    evaluate.generate_results(pd.DataFrame(rows), benchmark, "x", pair, ".")
    np.interp = interp
    metrics = printed[-1]
    return {"apgr": float(metrics["APGR"].iloc[0]), "auc": float(metrics["AUC"].iloc[0]), "cpt": cpts[-3:]}


for one in given["cases"]:
    try:
        found.append(case(**one))
    except ValueError as error:
        found.append({"error": str(error)})
print("\\n" + json.dumps(found))
"""

Case = dict[str, Any]
needs_peer = pytest.mark.skipif(not PEER.exists(), reason=f"needs RouteLLM 0.2.0 at {PEER}")


def binary_case(n: int, seed: int, *, skill: float, digits: int = 6) -> Case:
    """Graded right or wrong, as MMLU and GSM8K; a low skill gives curves that fall in places, few digits give ties."""
    rng = np.random.default_rng(seed)
    strong, weak = rng.random(n) < 0.8, rng.random(n) < 0.65
    rates = np.round(rng.random(n) + skill * (strong.astype(float) - weak), digits)
    return {"kind": "MMLU", "rates": rates.tolist(), "strong": strong.tolist(), "weak": weak.tolist()}


def graded_case(n: int, seed: int, *, skill: float) -> Case:
    """Two turns graded 1 to 10, as MT-Bench."""
    rng = np.random.default_rng(seed)
    strong, weak = rng.integers(6, 11, (n, 2)), rng.integers(3, 11, (n, 2))
    rates = rng.random(n) + skill * (strong - weak).mean(axis=1)
    return {"kind": "MTBench", "rates": rates.tolist(), "strong": strong.tolist(), "weak": weak.tolist()}


CASES = {
    "mmlu size": binary_case(14_037, 0, skill=0.3),
    "gsm8k size, ties": binary_case(1_307, 1, skill=0.2, digits=2),
    "no skill": binary_case(1_307, 2, skill=0.0),
    "worse than random": binary_case(600, 3, skill=-0.4),
    "edges on win rates": binary_case(101, 4, skill=0.2),
    "seventy-two questions": graded_case(72, 5, skill=0.05),
    "mt-bench, no skill": graded_case(72, 6, skill=0.0),
    "fewer rows than bins": binary_case(9, 10, skill=0.2),
}


def vectors(case: Case) -> tuple[NDArray[np.float64], ...]:
    strong, weak = (np.array(case[side], np.float64) for side in ("strong", "weak"))
    if strong.ndim == 2:
        strong, weak = strong.mean(axis=1), weak.mean(axis=1)
    return np.array(case["rates"], np.float64), strong, weak


def rederived(rates: NDArray[np.float64], strong: NDArray[np.float64], weak: NDArray[np.float64]) -> dict[str, Any]:
    """The definitions of the paper's appendix and of their code, one threshold at a time."""
    table = pl.DataFrame({"rate": rates, "strong": strong, "weak": weak})
    ranked = np.sort(rates)
    points = []
    for step in range(11):
        level = step / 10
        if step in (3, 6, 7):  # no binary floats; pandas asks for a little more
            level = np.nextafter(np.linspace(0, 1, 11)[step], 1)
        place = level * (len(ranked) - 1)
        below = int(place)
        above = min(below + 1, len(ranked) - 1)
        edge = ranked[below] + (ranked[above] - ranked[below]) * (place - below)
        goes = pl.col("rate") > edge if step == 10 else pl.col("rate") >= edge
        points.append(
            table.select(
                percent=goes.mean() * 100, quality=pl.when(goes).then("strong").otherwise("weak").mean() * 100
            ).row(0)
        )
    percent, quality = (np.array(column) for column in zip(*sorted(points, key=lambda p: p[0]), strict=True))
    low, high = weak.mean() * 100, strong.mean() * 100
    widths = np.diff(percent) / 100
    auc = float((widths * (quality[1:] + quality[:-1]) / 2).sum())
    return {
        "auc": auc,
        "apgr": (auc - low) / (high - low),
        "cpt": [float(np.interp(pgr * (high - low) + low, quality, percent)) for pgr in PGRS],
        "rises": bool((np.diff(quality) > 1e-9).all()),
    }


def theirs_of(cases: list[Case]) -> list[dict[str, Any]]:
    """What RouteLLM's own evaluation finds."""
    given = {"strong": STRONG, "weak": WEAK, "cases": cases}
    done = subprocess.run(
        [str(PEER), "-c", SCRIPT], input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def length_case(data: Path, benchmark: str) -> Case:
    """Their benchmark in their files, decontaminated by their list: the longer prompt goes strong."""
    folder = data / "routellm_layout" / benchmark
    seen = pl.read_ndjson(folder / "contaminated_prompts.jsonl")["eval_prompt"].unique()
    files = sorted((folder / "responses").glob("*.csv")) if benchmark == "mmlu" else [folder / "gsm8k_responses.csv"]
    rows = pl.concat([pl.read_csv(file, columns=["prompt", STRONG, WEAK]) for file in files])
    rows = rows.filter(~pl.col("prompt").is_in(seen.implode()))
    return {
        "kind": benchmark.upper(),
        "rates": rows["prompt"].str.len_chars().cast(pl.Float64).to_list(),
        "strong": rows[STRONG].to_list(),
        "weak": rows[WEAK].to_list(),
    }


@pytest.mark.parametrize("name", CASES)
def test_formulas_rederived(name: str) -> None:
    win_rates, strong, weak = vectors(CASES[name])
    ours, expected = routellm_curve(win_rates, strong, weak), rederived(win_rates, strong, weak)
    assert ours.apgr == pytest.approx(expected["apgr"], abs=1e-9)
    assert ours.auc * 100 == pytest.approx(expected["auc"], abs=1e-9)
    if expected["rises"]:  # else what interp answers hangs on its last bit: the test against their code holds there
        assert [ours.cpt(pgr) * 100 for pgr in PGRS] == pytest.approx(expected["cpt"], abs=1e-9)


def test_some_cases_rise_and_some_do_not() -> None:
    assert {rederived(*vectors(case))["rises"] for case in CASES.values()} == {True, False}


@needs_peer
def test_their_own_code() -> None:
    constant = {**CASES["no skill"], "rates": [0.5] * 1_307}
    gsm8k = {**CASES["no skill"], "kind": "GSM8K"}
    *found, of_gsm8k, of_constant = theirs_of([*CASES.values(), gsm8k, constant])
    for (name, case), theirs in zip(CASES.items(), found, strict=True):
        ours = routellm_curve(*vectors(case))
        assert ours.apgr == pytest.approx(theirs["apgr"], abs=1e-9), name
        unit = 1 if case["kind"] == "MTBench" else 100  # they state grades as they are, right answers in percent
        assert ours.auc * unit == pytest.approx(theirs["auc"], abs=1e-9), name
        assert [ours.cpt(pgr) * 100 for pgr in PGRS] == pytest.approx(theirs["cpt"], abs=1e-9), name
    assert of_gsm8k == found[list(CASES).index("no skill")]
    assert "Bin edges must be unique" in of_constant["error"]
    with pytest.raises(DataError, match="its own code stops here"):
        routellm_curve(*vectors(constant))


@pytest.mark.parametrize(("benchmark", "n", "apgr"), [("mmlu", 14_037, 0.583), ("gsm8k", 1_307, 0.598)])
def test_prompt_length_on_their_benchmarks(nightroute_data: Path, benchmark: str, n: int, apgr: float) -> None:
    win_rates, strong, weak = vectors(length_case(nightroute_data, benchmark))
    assert len(win_rates) == n
    ours = routellm_curve(win_rates, strong, weak)
    # Computed for this project from their files when it began, by other code and to three digits.
    assert ours.apgr == pytest.approx(apgr, abs=1e-3)
    # Eleven points lie close to the whole curve here.
    assert cost_quality_curve(win_rates, strong, weak).apgr == pytest.approx(ours.apgr, abs=0.006)


@needs_peer
def test_their_own_code_on_their_benchmarks(nightroute_data: Path) -> None:
    cases = [length_case(nightroute_data, benchmark) for benchmark in ("mmlu", "gsm8k")]
    for case, theirs in zip(cases, theirs_of(cases), strict=True):
        ours = routellm_curve(*vectors(case))
        assert [ours.apgr, ours.auc * 100] == pytest.approx([theirs["apgr"], theirs["auc"]], abs=1e-9)
        assert [ours.cpt(pgr) * 100 for pgr in PGRS] == pytest.approx(theirs["cpt"], abs=1e-9)
