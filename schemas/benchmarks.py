"""What a router is measured on: prompts whose two answers are graded, and what the answers cost where it is known."""

import dataframely as dy

from schemas.preferences import Golden


class Benchmark(Golden):
    """GOLDEN + what else is known of a prompt and its two answers; one row is one question of the benchmark.

    A prompt may stand in two rows where the benchmark asks it twice.
    """

    category = dy.String(nullable=True)
    """Subject, task or language; null in all rows where the table has none."""
    strong_response = dy.String(nullable=True)
    weak_response = dy.String(nullable=True)
    strong_input_tokens = dy.Int64(nullable=True, min=0)
    weak_input_tokens = dy.Int64(nullable=True, min=0)
    strong_output_tokens = dy.Int64(nullable=True, min=0)
    weak_output_tokens = dy.Int64(nullable=True, min=0)
    strong_usd = dy.Decimal(38, 12, nullable=True, min=0)
    """Cost of asking the strong model; null where it is unknown, which is not $0."""
    weak_usd = dy.Decimal(38, 12, nullable=True, min=0)
