"""The router that nightroute ships keeps the contract of the run-time side (DESIGN section 5)."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from routing.artifact import BUILTIN, RouterArtifact, load
from routing.batching import head_and_tail, pad

MAX_BYTES = 16 * 2**20
TEXTS = (
    "What is the capital of France?",
    "Prove that the square root of 2 is irrational, and then that the sum of two such roots is irrational too.",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n\nMake this fast for n = 10_000.",
    "Explícame la fotosíntesis 🌱 como si tuviera cinco años",
    "x " * 5_000,
)


@pytest.fixture(scope="module")
def artifact() -> RouterArtifact:
    return load(BUILTIN / "static-mf")


@pytest.fixture(scope="module")
def session(artifact: RouterArtifact) -> ort.InferenceSession:
    return ort.InferenceSession(str(artifact.graph), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def rows(artifact: RouterArtifact) -> list[NDArray[np.int64]]:
    return _tokens(artifact, list(TEXTS))


def _tokens(artifact: RouterArtifact, texts: list[str]) -> list[NDArray[np.int64]]:
    tokenizer, cut = Tokenizer.from_file(str(artifact.tokenizer)), artifact.card.truncation
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [head_and_tail(np.array(encoding.ids, np.int64), cut.head, cut.tail) for encoding in encodings]


def _padded(rows: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return pad(rows, max(len(row) for row in rows))


def _run(session: ort.InferenceSession, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    (win_rate,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    return np.asarray(win_rate)


def test_inputs_outputs_and_size(artifact: RouterArtifact, session: ort.InferenceSession) -> None:
    assert {(node.name, node.type, tuple(node.shape)) for node in session.get_inputs()} == {
        ("input_ids", "tensor(int64)", ("batch", "seq")),
        ("attention_mask", "tensor(int64)", ("batch", "seq")),
    }
    assert [(node.name, node.type, node.shape) for node in session.get_outputs()] == [
        ("win_rate", "tensor(float)", ["batch"])
    ]
    assert sum(path.stat().st_size for path in artifact.folder.iterdir()) <= MAX_BYTES
    assert sorted(path.name for path in artifact.folder.iterdir()) == ["model.onnx", "router.json", "tokenizer.json"]


def test_the_tokenizer_neither_cuts_nor_pads_nor_adds(artifact: RouterArtifact) -> None:
    tokenizer = Tokenizer.from_file(str(artifact.tokenizer))
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    short, long = tokenizer.encode_batch_fast(["hello world", "x " * 5_000], add_special_tokens=False)
    assert len(short.ids) == 2
    assert len(long.ids) == 5_000


def test_padding_and_company_change_nothing(session: ort.InferenceSession, rows: list[NDArray[np.int64]]) -> None:
    together = _run(session, *_padded(rows))
    ids, mask = _padded(rows)
    wider = [np.pad(values, ((0, 0), (0, 300))) for values in (ids, mask)]
    wider[0][:, -300:] = 17  # whatever stands behind the mask
    assert _run(session, wider[0], wider[1]) == pytest.approx(together, abs=1e-6)
    alone = np.concatenate([_run(session, *_padded([row])) for row in rows])
    assert alone == pytest.approx(together, abs=1e-6)
    assert len(set(together.tolist())) == len(TEXTS)


@pytest.mark.parametrize("width", [0, 1, 5])
def test_a_prompt_without_tokens_has_a_win_rate(session: ort.InferenceSession, width: int) -> None:
    empty = np.zeros((2, width), np.int64)
    win_rate = _run(session, empty, empty)
    assert np.isfinite(win_rate).all()
    assert ((win_rate > 0) & (win_rate < 1)).all()


def test_standard_operators_only(artifact: RouterArtifact) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra `train`")
    model = onnx.load(str(artifact.graph))
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", artifact.card.opset)}
    assert {node.domain for node in model.graph.node} == {""}


def test_the_card_tells_the_truth_about_its_own_scores(artifact: RouterArtifact) -> None:
    quantiles = np.array(artifact.card.score_quantiles)
    assert len(quantiles) == 101
    assert (np.diff(quantiles) >= 0).all()
    assert ((quantiles > 0) & (quantiles < 1)).all()
    # No mass of ties: every percent of the prompts has its own win rate.
    assert len(set(quantiles.tolist())) == 101
    assert artifact.card.parity_max_error <= 1e-4
    assert artifact.card.parity_prompts >= 1_000


def test_the_card_names_its_data_and_no_non_commercial_source(artifact: RouterArtifact) -> None:
    assert artifact.card.training
    assert all(len(part.sha256) == 64 and part.rows > 0 for part in artifact.card.training)
    names = " ".join(part.name for part in artifact.card.training)
    for excluded in ("alpaca_eval", "openai_gsm8k", "prometheus_mt_bench"):
        assert excluded not in names


def test_the_card_has_every_benchmark_with_its_baselines(artifact: RouterArtifact) -> None:
    found = {(metric.benchmark, metric.name) for metric in artifact.card.metrics}
    for benchmark in ("mmlu", "gsm8k", "mt_bench"):
        assert {(benchmark, name) for name in ("apgr", "apgr_random", "apgr_length", "cpt50", "cpt80")} <= found
    assert all(metric.low <= metric.high for metric in artifact.card.metrics)


def test_a_card_figure_comes_out_again(
    artifact: RouterArtifact, session: ort.InferenceSession, nightroute_data: Path
) -> None:
    from routing.metrics import cost_quality_curve
    from routing.training.preferences import benchmark

    table = benchmark(
        pl.read_parquet(nightroute_data / "benchmarks" / "mt_bench.parquet"),
        name="mt_bench",
        strong="gpt-4-1106-preview",
        weak="mistralai/Mixtral-8x7B-Instruct-v0.1",
    )
    win_rate = _run(session, *_padded(_tokens(artifact, table["prompt"].to_list()))).astype(np.float64)
    curve = cost_quality_curve(win_rate, table["strong_score"].to_numpy(), table["weak_score"].to_numpy())
    stated = {(metric.benchmark, metric.name): metric.value for metric in artifact.card.metrics}
    assert curve.apgr == pytest.approx(stated["mt_bench", "apgr"], abs=0.01)
