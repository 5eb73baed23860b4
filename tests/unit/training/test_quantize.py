"""int8: what it keeps, what it shrinks, what it may not depend on."""

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnx", reason="needs the extra `train`")
ort = pytest.importorskip("onnxruntime")

from onnx import ModelProto, TensorProto  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from routing.errors import DataError  # noqa: E402
from routing.training.quantize import compare, quantized  # noqa: E402
from routing.training.torch_export import export_module  # noqa: E402

VOCABULARY, HIDDEN = 600, 64


class Model(nn.Module):
    """A table, two wide layers, and a head of one column."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(VOCABULARY, HIDDEN)
        self.wide = torch.nn.Linear(HIDDEN, 4 * HIDDEN)
        self.narrow = torch.nn.Linear(4 * HIDDEN, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.narrow(torch.relu(self.wide(self.table(input_ids)))) * attention_mask[:, :, None]
        result: Tensor = torch.sigmoid(4 * self.head(hidden.sum(1))).squeeze(1)
        return result


@pytest.fixture(scope="module")
def model() -> ModelProto:
    torch.manual_seed(0)
    module = Model()
    with torch.no_grad():
        module.table.weight[0] = 0.0  # padding: a row without a range
    return export_module(module, output="win_rate")


def rates(model: ModelProto, ids: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(["win_rate"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0], np.float64)


IDS = np.random.default_rng(0).integers(0, VOCABULARY, (200, 12))


def test_int8_is_a_quarter_of_the_size_and_says_nearly_the_same(model: ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    smaller = quantized(model)
    assert model.SerializeToString(deterministic=True) == before
    assert smaller.ByteSize() < 0.35 * model.ByteSize()
    fp32, int8 = rates(model, IDS), rates(smaller, IDS)
    assert fp32.std() > 0.1
    assert 0 < np.abs(fp32 - int8).max() < 0.02
    assert smaller.SerializeToString(deterministic=True) == quantized(model).SerializeToString(deterministic=True)


def test_matrices_and_tables_are_int8_and_the_head_is_not(model: ModelProto) -> None:
    kinds = {tuple(w.dims): w.data_type for w in quantized(model).graph.initializer if len(w.dims) == 2}
    assert kinds[(VOCABULARY, HIDDEN)] == TensorProto.INT8
    assert kinds[(HIDDEN, 4 * HIDDEN)] == TensorProto.INT8
    assert kinds[(4 * HIDDEN, HIDDEN)] == TensorProto.INT8
    assert kinds.get((HIDDEN, 1), kinds.get((1, HIDDEN))) == TensorProto.FLOAT


def test_a_win_rate_does_not_depend_on_its_neighbours(model: ModelProto) -> None:
    smaller = quantized(model)
    alone = np.concatenate([rates(smaller, IDS[row : row + 1]) for row in range(20)])
    assert rates(smaller, IDS)[:20] == pytest.approx(alone, abs=1e-6)


def test_integer_sums_do_not_overflow_on_any_cpu(model: ModelProto) -> None:
    """The graph against the same arithmetic in numpy, whose sums are wide."""
    smaller = quantized(model)
    stored = {w.name: w for w in smaller.graph.initializer}
    matrices = [w for w in stored.values() if w.data_type == TensorProto.INT8 and w.dims[0] != VOCABULARY]
    assert len(matrices) == 2
    for matrix in matrices:
        # Two products in the 16 bits of a CPU without VNNI.
        largest = int(np.abs(np.frombuffer(matrix.raw_data, np.int8).astype(int)).max())
        assert largest == 63
        assert 2 * 255 * largest <= 2**15 - 1


def test_flips_are_counted_at_the_shares_of_the_nightly_split() -> None:
    fp32 = np.arange(10, dtype=np.float64) / 10.0
    int8 = fp32.copy()
    int8[[7, 8]] = int8[[8, 7]]  # the two sides of the cut at 20 % strong change places
    found = compare(fp32, int8)
    assert found.flips == {"0.2": 0.2, "0.5": 0.0, "0.8": 0.0}
    assert found.max_error == pytest.approx(0.1)
    assert found.mean_error == pytest.approx(0.02)
    assert set(compare(fp32, fp32).flips.values()) == {0.0}
    # Less than the nightly job's six digits is a tie, which the tie key cuts alike on both sides.
    assert set(compare(np.full(10, 0.5), 0.5 + 1e-9 * np.arange(10, dtype=np.float64)).flips.values()) == {0.0}
    with pytest.raises(DataError, match="same prompts"):
        compare(fp32, int8[:5])
