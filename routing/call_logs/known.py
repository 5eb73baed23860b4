"""The formats, and telling them apart by their columns."""

from collections.abc import Collection

from routing.call_logs.helicone import HELICONE
from routing.call_logs.langfuse import LANGFUSE
from routing.call_logs.layout import Format
from routing.call_logs.litellm import LITELLM
from routing.call_logs.nightroute import NIGHTROUTE
from routing.call_logs.openai_batch import OPENAI_BATCH
from routing.call_logs.otel import OTEL

FORMATS: dict[str, Format] = {
    known.name: known for known in (LITELLM, LANGFUSE, HELICONE, OTEL, OPENAI_BATCH, NIGHTROUTE)
}
"""Every format that needs no mapping."""


def looks_like(columns: Collection[str]) -> str | None:
    """Name of the format that columns belong to; null where they fit none."""
    return next((name for name, known in FORMATS.items() if known.fits(columns)), None)
