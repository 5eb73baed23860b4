"""Recorded answers: what a model really said to a prompt, looked up instead of made up."""

import hashlib

import polars as pl
import polars_hash as plh

from routing.errors import DataError, InputMissingError
from routing.sandbox.config import ReplayConfig

# Cannot stand in a model's name, so that no two pairs give the same key.
_SEPARATOR = "\0"


class Replay:
    """Recorded responses by (model, last user message).

    Prompts are kept as hashes only; of a pair that was recorded twice the first response counts, and a row without a
    response is no record.

    Raises:
        InputMissingError: The file does not exist.
        DataError: A column is missing or is no text.
    """

    def __init__(self, config: ReplayConfig) -> None:
        columns = [config.model_column, config.prompt_column, config.response_column]
        if not config.path.is_file():
            raise InputMissingError(f"no recorded answers at {config.path}; name a Parquet file with --replay")
        try:
            schema = pl.read_parquet_schema(config.path)
        except pl.exceptions.PolarsError as exc:
            raise DataError(f"{config.path} is no Parquet file: {exc}; record the answers as Parquet") from exc
        wrong = [f"{name}: {schema.get(name, 'missing')}" for name in columns if schema.get(name) != pl.String]
        if wrong:
            raise DataError(
                f"{config.path} cannot be replayed, these columns must be String: {'; '.join(wrong)}; "
                "set replay.model_column, replay.prompt_column and replay.response_column"
            )
        recorded = (
            pl.scan_parquet(config.path)
            .select(
                plh.concat_str([columns[0], columns[1]], separator=_SEPARATOR).chash.sha2_256().alias("key"),
                pl.col(columns[2]).alias("response"),
            )
            .drop_nulls()
            .unique("key", keep="first", maintain_order=True)
            .collect()
        )
        self._responses = recorded["response"]
        self._rows = {key: row for row, key in enumerate(recorded["key"])}

    def __len__(self) -> int:
        return len(self._rows)

    def response(self, model: str, prompt: str) -> str | None:
        """Return what `model` answered to `prompt`, or None when that was not recorded."""
        row = self._rows.get(hashlib.sha256(f"{model}{_SEPARATOR}{prompt}".encode()).hexdigest())
        if row is None:
            return None
        response: str = self._responses[row]
        return response
