"""A router artifact: a folder of `model.onnx`, `tokenizer.json` and `router.json`. Loading verifies every digest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from routing.errors import ArtifactError, ConfigError
from schemas.artifact import RouterCard

CARD = "router.json"
GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
BUILTIN = Path(__file__).parent / "artifacts"


@dataclass(frozen=True, slots=True)
class RouterArtifact:
    """A verified artifact folder."""

    folder: Path
    card: RouterCard
    sha256: str
    """Digest of the card, which holds the digests of all other files: the identity of the router."""

    @property
    def graph(self) -> Path:
        """The ONNX graph."""
        return self.folder / GRAPH

    @property
    def tokenizer(self) -> Path:
        """The tokenizer."""
        return self.folder / TOKENIZER


def locate(name: str, *, relative_to: Path) -> Path:
    """Return the folder that `name` means: `builtin:NAME` for a router that nightroute ships, else a path.

    Raises:
        ArtifactError: no such built-in router.
    """
    if not name.startswith("builtin:"):
        return relative_to / name
    shipped = {f"builtin:{path.name}": path for path in BUILTIN.iterdir() if path.is_dir()}
    if name not in shipped:  # looked up, not joined: `builtin:../x` names nothing
        raise ArtifactError(
            f"router {name!r} is not shipped with nightroute; shipped are {sorted(shipped)}, or give a path"
        )
    return shipped[name]


def load(folder: Path) -> RouterArtifact:
    """Read and verify an artifact folder.

    Raises:
        ArtifactError: the folder or a file is missing, the card cannot be read, or a file is not the one the card
        names.
    """
    card_path = folder / CARD
    try:
        text = card_path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"router artifact {folder} has no readable {CARD} ({error.strerror}); expected a folder with "
            f"{GRAPH}, {TOKENIZER} and {CARD}, as written by `nightroute train`"
        ) from error
    try:
        card = RouterCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ArtifactError(
            f"{card_path} is not a card this version reads: {place}: {first['msg']}; train or export the router again"
        ) from error
    for name in (GRAPH, TOKENIZER):
        if name not in card.files:
            raise ArtifactError(f"{card_path} lists no digest for {name}; train or export the router again")
    for name, wanted in card.files.items():
        _verify(folder / name, wanted)
    return RouterArtifact(folder, card, hashlib.sha256(text).hexdigest())


def check_reads_tokens(artifact: RouterArtifact, *, said: str, advice: str) -> None:
    """Refuse a router that starts at an embedding, for a command that buys nothing.

    Args:
        artifact: The router.
        said: How the error names it.
        advice: What to do instead.

    Raises:
        ConfigError: it starts at an embedding.
    """
    wanted = artifact.card.embedding
    if wanted is not None:
        raise ConfigError(
            f"{said} starts at an embedding ({wanted.provider} {wanted.model}), which has to be bought; {advice}"
        )


def file_sha256(path: Path) -> str:
    """Return the digest of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, wanted: str) -> None:
    try:
        got = file_sha256(path)
    except OSError as error:
        raise ArtifactError(
            f"router file {path} cannot be read ({error.strerror}); restore the artifact folder"
        ) from error
    if got != wanted:
        raise ArtifactError(
            f"router file {path} has sha256 {got[:12]}..., its card says {wanted[:12]}...: it was changed or damaged; "
            "restore the artifact folder, or export the router again"
        )
