"""`nightroute inspect ARTIFACT`: verify a router's files and print its card."""

from collections.abc import Mapping
from pathlib import Path

from jobs import console
from routing.artifact import load, locate
from schemas.artifact import RouterCard


def show_card(name: str) -> int:
    """Print the card of `builtin:NAME` or of an artifact folder; returns the exit code.

    Raises:
        ArtifactError: the folder is missing, damaged or of another format version.
    """
    artifact = load(locate(name, relative_to=Path.cwd()))
    card = artifact.card
    console.show_metrics(card.name, card.metrics)
    for line in _lines(card):
        console.say(line)
    console.emit(
        {"job": "inspect", "status": "verified", "exit_code": 0, "folder": str(artifact.folder)}
        | {"sha256": artifact.sha256, "card": card.model_dump(mode="json")}
    )
    return 0


def _lines(card: RouterCard) -> list[str]:
    quantiles, cut = card.score_quantiles, card.truncation
    cuts = ", ".join(
        f"{share:.0%} at {quantiles[round(100 * (1 - share))]:.4f}" for share in (0.2, 0.5, 0.8) if quantiles
    )
    return [
        f"kind {card.kind}: {card.description}",
        f"trained for: {card.trained_pair}",
        f"reads the first {cut.head} and the last {cut.tail} tokens; ONNX opset {card.opset}",
        *_embedding(card),
        f"alpha on held-out prompts, for a strong share of: {cuts or 'not known'}",
        f"trained on: {'; '.join(f'{data.name} ({data.rows:,} rows)' for data in card.training)}",
        *_counts("left out of it", card.dropped),
        f"graph against its training framework: {card.parity_max_error:.1e} on {card.parity_prompts:,} prompts",
        *_quantization(card),
        *_calibration(card),
        *_counts("of the fit", card.notes),
        f"licence: {card.licence}",
        "what it cannot do:",
        *(f"  - {limit}" for limit in card.limits),
    ]


def _embedding(card: RouterCard) -> list[str]:
    wanted = card.embedding
    if wanted is None:
        return []
    return [f"starts at an embedding that is bought: {wanted.provider} {wanted.model}, {wanted.dim} dimensions"]


def _quantization(card: RouterCard) -> list[str]:
    int8 = card.quantization
    if int8 is None:
        return []
    moved = ", ".join(f"{share:.1%} at {cut}" for cut, share in int8.flips.items())
    return [
        f"{int8.scheme}: {int8.max_error:.1e} at most against fp32; prompts that change sides, by strong share: {moved}"
    ]


def _calibration(card: RouterCard) -> list[str]:
    found = card.calibration
    if found is None:
        return []
    error = f"ECE {found.ece_before:.3f} before, {found.ece_after:.3f} after (cross-fitted)"
    return [f"calibrated ({found.method}) on {found.n:,} labels: {error}"]


def _counts(what: str, figures: Mapping[str, float]) -> list[str]:
    return [f"{what}: {', '.join(f'{name} {value:,g}' for name, value in figures.items())}"] if figures else []
