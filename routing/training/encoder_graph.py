"""The sentence encoder as an ONNX graph, to be put in front of heads that read an embedding."""

import onnx
from torch import Tensor, nn
from torch.nn import functional

from routing.training.encoder import Encoder
from routing.training.torch_export import export_module


class _UnitEmbedding(nn.Module):
    """`Encoder.forward` and its normalisation as a module, which is what the exporter takes."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return functional.normalize(self.encoder.forward(input_ids, attention_mask), dim=1)


def encoder_graph(encoder: Encoder) -> onnx.ModelProto:
    """Return the graph `input_ids`, `attention_mask` int64 [batch, sequence] -> `embedding` float32 [batch, dim].

    Embeddings are `Encoder.embed`'s: mean over the mask, unit length. The prompt's special tokens ([CLS], [SEP]) are
    part of `input_ids`; every row has at least one token.
    """
    dim = encoder.weights["embeddings.word_embeddings.weight"].shape[1]
    return export_module(_UnitEmbedding(encoder), output="embedding", dim=dim)
