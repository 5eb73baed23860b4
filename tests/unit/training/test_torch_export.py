"""torch to ONNX: dynamic axes, clean and reproducible files."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnx", reason="needs the extra `train`")
ort = pytest.importorskip("onnxruntime")

from onnx import ModelProto  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from routing.batching import pad  # noqa: E402
from routing.errors import ConfigError  # noqa: E402
from routing.training.encoder import Encoder, find_encoder, load_encoder  # noqa: E402
from routing.training.encoder_graph import encoder_graph  # noqa: E402
from routing.training.onnx_graph import OPSET  # noqa: E402
from routing.training.torch_export import check_exportable, export_module  # noqa: E402

TEXTS = ["what is the sum of 1 + 2 ?", "hello", "write function ( 12 , 7 )", "primes", "the the the"]


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return load_encoder(find_encoder(encoder_folder))


@pytest.fixture(scope="module")
def graph(encoder: Encoder) -> ModelProto:
    return encoder_graph(encoder)


def test_the_encoders_graph_gives_the_encoders_unit_vectors(encoder: Encoder, graph: ModelProto) -> None:
    session = ort.InferenceSession(graph.SerializeToString())
    for count, width in ((1, 12), (5, 40), (3, 20)):
        rows = [np.array(encoding.ids) for encoding in encoder.tokenizer.encode_batch(TEXTS[:count])]
        ids, mask = pad(rows, width)
        (found,) = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        wanted = torch.nn.functional.normalize(encoder.forward(torch.from_numpy(ids), torch.from_numpy(mask)), dim=1)
        assert found == pytest.approx(wanted.numpy(), abs=1e-6)
        assert np.linalg.norm(found, axis=1) == pytest.approx(1.0)


def test_the_file_states_opset_and_axes_and_says_nothing_about_its_maker(graph: ModelProto) -> None:
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", OPSET)]
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.graph.input, *graph.graph.output)
    }
    assert shapes == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
        "embedding": ["batch", 16],
    }
    assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)
    written = graph.SerializeToString()
    assert b".py" not in written
    assert b"site-packages" not in written


def test_the_same_weights_give_the_same_bytes(encoder: Encoder, graph: ModelProto) -> None:
    assert encoder_graph(encoder).SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)


def test_a_module_is_exported_in_eval_mode_and_left_as_it_was() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(10, 4)
            self.dropout = torch.nn.Dropout(0.9)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            result: Tensor = (self.dropout(self.table(input_ids)).sum(2) * attention_mask).sum(1)
            return result

    module = Noisy().train()
    session = ort.InferenceSession(export_module(module, output="win_rate").SerializeToString())
    ids, mask = pad([np.array([1, 2, 3]), np.array([4])])
    (found,) = session.run(["win_rate"], {"input_ids": ids, "attention_mask": mask})
    assert module.training
    expected = module.eval()(torch.from_numpy(ids), torch.from_numpy(mask)).detach().numpy()
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_graph_over_two_gigabytes_is_refused_before_training() -> None:
    check_exportable(500_000_000)
    with pytest.raises(
        ConfigError, match=r"8,000 million parameters, a float32 graph of 32\.0 GB; .* at most 536 million"
    ):
        check_exportable(8_000_000_000)
