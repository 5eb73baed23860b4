"""Imported routers against RouteLLM 0.2.0's own router classes, in their environment, on checkpoints in their format.

The published checkpoints lie on a hub, so theirs here have random weights: `mf` made and saved by RouteLLM's own class,
`bert` and `causal_llm` in the layout that its classes load. Embeddings are stubbed with the same vectors; the model of
`causal_llm` is loaded in float32 on the CPU, where RouteLLM's code says bfloat16 and CUDA.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from routing.artifact import load
from routing.routers import EmbeddingRouter, OnnxRouter
from tests.routellm_checkpoints import save_bert, save_causal_llm

ROOT = Path(__file__).parents[2]
PEER = Path(os.environ.get("NIGHTROUTE_PEERS", ROOT / ".venv-peers")) / "bin" / "python"
DATA = ROOT.parent / "shared" / "data" / "query_logs" / "prompts.parquet"
pytestmark = [
    pytest.mark.skipif(not PEER.exists(), reason=f"needs RouteLLM 0.2.0 at {PEER}"),
    pytest.mark.skipif(not DATA.exists(), reason=f"needs the prompts of {DATA}"),
]
pytest.importorskip("torch", reason="needs the extra `train`")

TOLERANCE = 1e-5
N_COMPARED = {"mf": 1_000, "bert": 300, "causal_llm": 60}

SCRIPT = """
import json, sys, types
import numpy as np
import torch

given = json.load(sys.stdin)
torch.set_num_threads(2)
import routellm.routers.causal_llm.model as causal
import routellm.routers.matrix_factorization.model as mf
import routellm.routers.routers as routers

folder, prompts = given["folder"], given["prompts"]


class Embeddings:
    def create(self, *, input, model):
        assert model == "text-embedding-3-small"
        vector = vectors[prompts.index(input[0])].tolist()
        return types.SimpleNamespace(data=[types.SimpleNamespace(embedding=vector)])


if given["kind"] == "mf":
    torch.manual_seed(5)
    vectors = np.load(given["vectors"])
    model = mf.MFModel(dim=128, num_models=64, text_dim=1536, num_classes=1, use_proj=True)
    with torch.no_grad():
        model.classifier[0].weight *= 400  # win rates all over the unit interval
    model.save_pretrained(folder, config=dict(dim=128, num_models=64, text_dim=1536, num_classes=1, use_proj=True))
    mf.OPENAI_CLIENT = types.SimpleNamespace(embeddings=Embeddings())
    router = routers.MatrixFactorizationRouter(folder, **given["pair"])
elif given["kind"] == "bert":
    router = routers.BERTRouter(folder)
else:
    to = torch.Tensor.to
    torch.Tensor.to = lambda self, *args, **options: self if args == ("cuda",) else to(self, *args, **options)
    torch.nn.Module.to = lambda self, *args, **options: self
    from transformers import AutoModelForCausalLM

    causal.get_model = lambda config, model_ckpt: AutoModelForCausalLM.from_pretrained(model_ckpt, dtype=torch.float32)
    get_tokenizer = causal.get_tokenizer
    causal.get_tokenizer = lambda model_id, **options: get_tokenizer(folder, **options)
    routers.hf_hub_download = lambda repo_id, filename: f"{repo_id}/{filename}"
    router = routers.CausalLLMRouter(folder)
rates = [float(router.calculate_strong_win_rate(prompt)) for prompt in prompts]
print("\\n" + json.dumps(rates))
"""


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    """Real prompts, short enough for a tiny model of bytes."""
    table = pl.read_parquet(DATA, columns=["prompt"]).filter(pl.col("prompt").str.len_bytes().is_between(16, 160))
    return table["prompt"].str.strip_chars().unique().sort().sample(1_000, seed=3).to_list()


@pytest.fixture(scope="module")
def table(prompts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.parquet"
    pl.DataFrame({"prompt": prompts}).write_parquet(path)
    return path


def theirs(kind: str, folder: Path, prompts: list[str], **more: Any) -> NDArray[np.float64]:
    """Win rates of RouteLLM's class."""
    given = {"kind": kind, "folder": str(folder), "prompts": prompts, **more}
    done = subprocess.run(
        [str(PEER), "-c", SCRIPT], input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300,
        env={"OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]), np.float64)


def imported(folder: Path, table: Path, **options: Any) -> Path:
    """The artifact of a checkpoint."""
    from jobs.import_routellm import ImportOptions, import_routellm

    output = folder.with_name(f"{folder.name}-router")
    import_routellm(folder, ImportOptions(output=output, prompts=table, **options))
    return output


class Known:
    """The same vectors that RouteLLM's class was given."""

    def __init__(self, prompts: list[str], vectors: NDArray[np.float32]) -> None:
        self._vectors = dict(zip(prompts, vectors, strict=True))

    def known(self, texts: Any) -> NDArray[np.bool_]:
        return np.array([text in self._vectors for text in texts])

    def vectors(self, texts: Any) -> NDArray[np.float32]:
        return np.stack([self._vectors[text] for text in texts])


@pytest.mark.parametrize(
    "pair", [{}, {"strong_model": "claude-2.1", "weak_model": "mistral-7b-instruct"}], ids=["default", "another pair"]
)
def test_mf(pair: dict[str, str], prompts: list[str], table: Path, tmp_path: Path) -> None:
    compared = prompts[: N_COMPARED["mf"]]
    vectors = np.random.default_rng(6).standard_normal((len(compared), 1_536))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    expected = theirs("mf", tmp_path / "mf", compared, vectors=str(tmp_path / "vectors.npy"), pair=pair)
    names = {name.removesuffix("_model"): model for name, model in pair.items()}
    artifact = load(imported(tmp_path / "mf", table, **names))
    found = EmbeddingRouter(artifact, Known(compared, vectors)).win_rates(compared).win_rate
    assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert np.ptp(found) > 0.3


def test_bert(prompts: list[str], table: Path, tmp_path: Path) -> None:
    compared = prompts[: N_COMPARED["bert"]]
    save_bert(tmp_path / "bert")
    expected = theirs("bert", tmp_path / "bert", compared)
    router = OnnxRouter(load(imported(tmp_path / "bert", table)))
    rates = router.win_rates(compared)
    assert_allclose(rates.win_rate, expected, rtol=0, atol=TOLERANCE)
    assert np.ptp(rates.win_rate) > 0.2
    assert rates.tokens.max() > 62 > rates.tokens.min()  # some are cut, some are not


def test_causal_llm(prompts: list[str], table: Path, tmp_path: Path) -> None:
    compared = prompts[: N_COMPARED["causal_llm"]]
    save_causal_llm(tmp_path / "causal", lead_in=True)
    expected = theirs("causal_llm", tmp_path / "causal", compared)
    router = OnnxRouter(load(imported(tmp_path / "causal", table)))
    found = router.win_rates(compared).win_rate
    assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert np.ptp(found) > 0.2
