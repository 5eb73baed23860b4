"""What every training run shares: where the tables are, how files are read, what is told at the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import polars as pl

from jobs.train_config import Evaluation
from routing.errors import DataError, InputMissingError
from routing.metrics import has_gap
from schemas.artifact import RouterCard

DATA_VARIABLE = "NIGHTROUTE_DATA"
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Beside the checkout."""

READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".csv": partial(pl.read_csv, infer_schema_length=None),
    ".jsonl": partial(pl.read_ndjson, infer_schema_length=None),
    ".ndjson": partial(pl.read_ndjson, infer_schema_length=None),
}
"""Types are read off the whole file: a column may begin with a thousand whole numbers, or appear late."""


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training run made."""

    folder: Path
    card: RouterCard
    contaminated: int
    """Training prompts dropped because they are evaluation prompts, in the same words or in others."""

    def record(self) -> dict[str, object]:
        """Return the JSON summary."""
        return {
            "job": "train",
            "router": self.card.name,
            "kind": self.card.kind,
            "folder": str(self.folder),
            "files": self.card.files,
            "contaminated": self.contaminated,
            "parity_max_error": self.card.parity_max_error,
            "metrics": {f"{metric.benchmark}.{metric.name}": metric.value for metric in self.card.metrics},
        }


def data_folder(path: str | None, *, base: Path, environment: Mapping[str, str]) -> Path:
    """Return the folder of the training tables: the config's, else NIGHTROUTE_DATA, else the one beside the checkout.

    Raises:
        InputMissingError: it is not there.
    """
    if path is not None:
        folder, origin = base / path, "data.path of the config"
    elif environment.get(DATA_VARIABLE):
        folder, origin = Path(environment[DATA_VARIABLE]), f"environment variable {DATA_VARIABLE}"
    else:
        folder, origin = DEFAULT_DATA, "default, beside the checkout"
    if not folder.is_dir():
        raise InputMissingError(
            f"data folder {folder} ({origin}) is not there; set data.path in the config, or export {DATA_VARIABLE}"
        )
    return folder


def read_table(path: Path, *, check: str = "the paths in the config's sources and evaluation") -> pl.DataFrame:
    """Read a table that a config names: Parquet, CSV or JSON lines.

    Args:
        path: Of the table.
        check: What in the config names it.

    Raises:
        InputMissingError: it is missing.
        DataError: it cannot be read.
    """
    if not path.is_file():
        raise InputMissingError(f"table {path} is missing; check {check}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"table {path}: files ending in {path.suffix!r} are not read; expected one of {list(READERS)}")
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"table {path} cannot be read as {path.suffix.lstrip('.')}: {error}") from error


def read_benchmarks(
    data: Path, evaluation: Sequence[Evaluation], *, seed: int, trained: pl.Series | None = None
) -> dict[str, pl.DataFrame]:
    """Read the evaluation sets, one row per prompt.

    Args:
        data: Folder of the tables.
        evaluation: What the config says of each.
        seed: Draws `max_prompts`.
        trained: Prompts of the sources, for sets that leave them out (`drop_trained`).

    Raises:
        InputMissingError: a file is missing.
        DataError: a model of the pair has no rows in it.
    """
    from routing.training import preferences

    found = {}
    for item in evaluation:
        rows: pl.DataFrame = preferences.benchmark(
            read_table(data / item.path), name=item.name, strong=item.strong, weak=item.weak
        )
        if item.drop_trained and trained is not None:
            rows = rows.join(trained.to_frame("prompt"), on="prompt", how="anti", maintain_order="left")
        if rows.is_empty():
            raise DataError(f"{item.name}: every prompt of it is trained on; draw fewer (max_prompts of its source)")
        strong, weak = (rows[f"{side}_score"].to_numpy() for side in ("strong", "weak"))
        if not has_gap(strong - weak):
            raise DataError(
                f"{item.name}: {item.strong} scores {strong.mean():.3f}, {item.weak} {weak.mean():.3f}; APGR needs a "
                "strong model that is better: swap them, or leave this set out of [[evaluation]]"
            )
        if item.max_prompts is not None and item.max_prompts < len(rows):
            rows = rows.sample(item.max_prompts, seed=seed, shuffle=False)
        found[item.name] = rows
    return found


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return package -> version; one that is not installed, because nothing needed it, is left out."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
