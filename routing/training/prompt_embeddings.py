"""Embeddings of prompts, each distinct one computed once: in memory, and on disk where a folder is given.

A sentence encoder reads about a hundred prompts a second and core, so a second router on the same prompts, or a run
that was stopped, finds here what is known already.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray

from routing.errors import DataError
from routing.training.embedders import Embedder

_CHUNK = 2_048
"""Prompts embedded between two writes."""


class PromptEmbeddings:
    """Calls an embedder with texts; `PromptEmbeddings(...)(prompts)` has shape (len(prompts), dim)."""

    def __init__(self, embedder: Embedder, *, cache: Path | None = None) -> None:
        """Open the cache.

        Args:
            embedder: What embeds.
            cache: Folder that keeps embeddings between runs, for any number of embedders; null keeps none.

        Raises:
            DataError: a file of the cache cannot be read.
        """
        self.embedder = embedder
        self._folder = None if cache is None else cache / embedder.digest()
        self._keys = pl.Series("key", [], pl.String)
        self._vectors = np.empty((0, embedder.dim), np.float32)
        if self._folder is not None:
            for path in sorted(self._folder.glob("part-*.parquet")):
                self._add(*_read(path, embedder.dim))

    def __call__(self, prompts: Sequence[str] | pl.Series) -> NDArray[np.float32]:
        """Return the embeddings of prompts, shape (n, dim), in their order; equal prompts are embedded once."""
        asked = pl.DataFrame({"prompt": prompts}, schema={"prompt": pl.String}).with_columns(
            key=plh.col("prompt").chash.sha2_256()
        )
        new = asked.unique("key", maintain_order=True).join(
            self._keys.to_frame(), on="key", how="anti", maintain_order="left"
        )
        for part in new.iter_slices(_CHUNK):
            vectors = self.embedder.embed(self.embedder.text.tokens(part["prompt"].to_list()))
            self._write(part["key"], vectors)
            self._add(part["key"], vectors)
        places = self._keys.to_frame().with_row_index("place")
        found = asked.select("key").join(places, on="key", how="left", maintain_order="left")["place"]
        return np.asarray(self._vectors[found.to_numpy().astype(np.intp)])

    def directions(self, prompts: Sequence[str] | pl.Series) -> NDArray[np.float32]:
        """Return the embeddings without their counts: those of `embedder.directions()`, from the same store."""
        return self(prompts)[:, : self.embedder.dim - self.embedder.counts]

    def _add(self, keys: pl.Series, vectors: NDArray[np.float32]) -> None:
        fresh = (~keys.is_in(self._keys.implode())).to_numpy()
        self._keys = pl.concat([self._keys, keys.filter(fresh)])
        self._vectors = np.concatenate([self._vectors, vectors[fresh]])

    def _write(self, keys: pl.Series, vectors: NDArray[np.float32]) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        staged = self._folder / f".{name}"
        pl.DataFrame({"key": keys, "embedding": vectors}).write_parquet(staged)
        # In one step: a run that is killed leaves whole files only.
        staged.replace(self._folder / f"part-{name}.parquet")


def _read(path: Path, dim: int) -> tuple[pl.Series, NDArray[np.float32]]:
    try:
        part = pl.read_parquet(path, columns=["key", "embedding"])
        vectors = part["embedding"].to_numpy()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"embedding cache {path} cannot be read: {error}; delete the file") from error
    if vectors.shape != (part.height, dim) or vectors.dtype != np.float32:
        raise DataError(
            f"embedding cache {path} holds {vectors.dtype} of shape {vectors.shape}, expected float32 of shape "
            f"({part.height}, {dim}); delete the file"
        )
    return part["key"], vectors
