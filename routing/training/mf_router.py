"""The router `mf` with its embedder in front: one graph from tokens to `win_rate`."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from routing.training.dataset import TrainingSet
from routing.training.fuse import EmbeddingRouter, LinearHead
from routing.training.mf import MfConfig, MfHead, fit_mf
from routing.training.prompt_embeddings import PromptEmbeddings
from routing.training.router import Run


@dataclass(frozen=True, slots=True)
class BilinearHead:
    """A `routing.training.fuse.Head`: trained and measured as the bilinear form, exported as one vector."""

    pair: MfHead

    def win_rates(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return win rates of embeddings (n, dim), shape (n,)."""
        return self.pair.win_rates(embeddings)

    def graph(self) -> onnx.ModelProto:
        """Return `embedding` float32 [batch, dim] -> `win_rate` float32 [batch]."""
        weight, bias = self.pair.pair_vector()
        return LinearHead(weight, bias).graph()


def fit_mf_router(dataset: TrainingSet, embed: PromptEmbeddings, config: MfConfig, run: Run) -> EmbeddingRouter:
    """Fit the bilinear model on the directions of the prompts; see `routing.training.mf.fit_mf`."""
    head = fit_mf(dataset, embed.directions, config, run)
    return EmbeddingRouter(
        "mf", embed.embedder.directions(), BilinearHead(head), {"models": float(len(head.model.models))}
    )
