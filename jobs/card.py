"""`nightroute inspect ARTIFACT`: verify a router's files and print its card."""

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
    quantiles = card.score_quantiles
    cuts = ", ".join(f"{share:.0%} at {quantiles[round(100 * (1 - share))]:.4f}" for share in (0.2, 0.5, 0.8))
    return [
        f"kind {card.kind}: {card.description}",
        f"trained for: {card.trained_pair}",
        f"reads the first {card.truncation.head} and the last {card.truncation.tail} tokens; ONNX opset {card.opset}",
        f"alpha on held-out prompts, for a strong share of: {cuts}",
        f"trained on: {'; '.join(f'{data.name} ({data.rows:,} rows)' for data in card.training)}",
        f"graph against its training framework: {card.parity_max_error:.1e} on {card.parity_prompts:,} prompts",
        f"licence: {card.licence}",
        "what it cannot do:",
        *(f"  - {limit}" for limit in card.limits),
    ]
