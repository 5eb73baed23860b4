"""`nightroute train`: preference data in, a router artifact out."""

import difflib
import hashlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jobs.config_file import parse, read_toml
from jobs.console import say, show_metrics
from jobs.train_config import RouterConfig, StaticMfTrainConfig
from jobs.train_kinds import KINDS
from jobs.training import TrainSummary
from routing.artifact import file_sha256
from routing.errors import ConfigError

TRAINING_PACKAGES = ("torch", "onnx", "safetensors", "transformers", "peft", "matplotlib")
MAX_EXTENDS = 8


def train(
    config_path: Path,
    *,
    output: Path | None = None,
    checkpoints: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> TrainSummary:
    """Train, check, measure and write the router of a config.

    Args:
        config_path: TOML file, see `jobs.train_config` and `jobs.train_kinds`; its paths are relative to it.
        output: Folder of the artifact instead of the config's.
        checkpoints: Folder of resumable checkpoints; a run that finds some there goes on from them.
        environment: Where NIGHTROUTE_DATA is looked up.

    Raises:
        ConfigError: the config is wrong, or the extra `train` is not installed.
        InputMissingError: the data folder, a table or a base model is missing.
        DataError: a table breaks its contract, a filter leaves nothing, or the loss is no number.
        ArtifactError: the exported graph differs from the training framework; nothing was written.
    """
    data, digest = read_config(config_path)
    config = parse_kind(data, source=str(config_path))
    require_training()
    base = config_path.resolve().parent
    if isinstance(config, StaticMfTrainConfig):
        from jobs.train_static import train_static

        return train_static(config, base, digest, output=output, environment=environment)
    from jobs.train_router import train_router

    return train_router(config, base, digest, output=output, checkpoints=checkpoints, environment=environment)


def parse_kind(data: Mapping[str, Any], *, source: str) -> RouterConfig | StaticMfTrainConfig:
    """Validate a training config by the model of its kind.

    Raises:
        ConfigError: the kind is unknown, or a key is wrong.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {list(KINDS)}"
        raise ConfigError(f"config {source}:\n  kind: got {kind!r}; {hint}")
    return parse(KINDS[kind], data, source=source)


def require_training() -> None:
    """Refuse to go on without the extra `train`.

    Raises:
        ConfigError: it is not installed.
    """
    missing = [name for name in TRAINING_PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training needs {', '.join(missing)}, not installed here; run `pip install 'nightroute[train]'` "
            "(the nightly job needs none of it)"
        )


def read_config(path: Path) -> tuple[dict[str, Any], str]:
    """Read a training config and those that it extends; the nearer file wins key by key, lists are replaced whole.

    Returns:
        The merged config, and the sha256 of the file (of the digests of all files, the extended ones first).

    Raises:
        ConfigError: a file is missing or no TOML, or the files extend each other in a circle.
    """
    chain, digests, here = list[dict[str, Any]](), list[str](), path
    while True:
        data = read_toml(here)
        digests.insert(0, file_sha256(here))
        chain.insert(0, data)
        further = data.pop("extends", None)
        if further is None:
            break
        if not isinstance(further, str) or len(chain) > MAX_EXTENDS:
            raise ConfigError(f"config {here}:\n  extends: expected one file, and no circle of files, got {further!r}")
        here = here.parent / further
    whole: dict[str, Any] = {}
    for data in chain:
        whole = merged(whole, data)
    joined = hashlib.sha256("".join(digests).encode()).hexdigest()
    return whole, digests[0] if len(digests) == 1 else joined


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay the keys of one config over those of another: tables key by key, everything else whole."""
    both = {key: merged(under[key], over[key]) for key in under.keys() & over.keys() if _tables(under[key], over[key])}
    return under | over | both


def _tables(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def show(summary: TrainSummary) -> None:
    """Print what was made and how good it is."""
    card = summary.card
    show_metrics(card.name, card.metrics)
    say(f"graph against its training framework: {card.parity_max_error:.1e} on {card.parity_prompts:,} prompts")
    if card.quantization is not None:
        moved = ", ".join(f"{share:.2%} at {cut}" for cut, share in card.quantization.flips.items())
        say(
            f"int8 against fp32: rows that change sides {moved} strong share; {card.quantization.max_error:.1e} at most"
        )
    say(f"wrote {summary.folder}")
