"""Stage 2 of an evaluation: win rates of routers, cached on disk under the artifact's and the prompts' digest.

The cache is a folder of Parquet files that may be deleted at any time. A file that is damaged or does not fit is scored
again.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from jobs.console import part_bar, say
from jobs.evaluate_config import BASELINES, EvaluateJob
from jobs.rundir import write_atomic
from routing.artifact import RouterArtifact, check_reads_tokens, load, locate
from routing.benchmarks import prompts_sha256
from routing.errors import ConfigError
from routing.metrics import Floats
from routing.routers import TOKENIZE_ROWS, OnnxRouter
from schemas.evaluation import EvaluatedRouter

_SHA256 = "win_rate_sha256"
"""Key of the file's metadata that holds the digest of its values."""


@dataclass(frozen=True, slots=True)
class OpenRouter:
    """A router that is ready to score."""

    name: str
    artifact: RouterArtifact
    router: OnnxRouter

    @property
    def described(self) -> EvaluatedRouter:
        """What a report says of it."""
        card = self.artifact.card
        return EvaluatedRouter(
            name=self.name,
            kind=card.kind,
            sha256=self.artifact.sha256,
            trained_pair=card.trained_pair,
            licence=card.licence,
        )


def open_routers(job: EvaluateJob) -> list[OpenRouter]:
    """Load, verify and open every router of a config, so that a bad one is known before anything is scored.

    Raises:
        ArtifactError: a folder is missing or damaged, or its graph cannot be opened.
        ConfigError: a router starts at an embedding that has to be bought, or two routers have one name.
    """
    found: list[OpenRouter] = []
    for place, section in enumerate(job.config.routers):
        artifact = load(locate(section.artifact, relative_to=job.base))
        name = section.name or artifact.card.name
        if name in (*BASELINES, *(router.name for router in found)):
            raise ConfigError(f"routers.{place}: the name {name!r} is taken; give this router a name of its own")
        advice = "an evaluation calls nobody: take this router out, or one whose graph starts at tokens"
        check_reads_tokens(artifact, said=f"routers.{place}: {name!r}", advice=advice)
        router = OnnxRouter(artifact, threads=section.threads, token_budget=section.token_budget)
        found.append(OpenRouter(name, artifact, router))
    return found


class Scorer:
    """Win rates of routers, from the cache where they are in it."""

    def __init__(self, routers: Sequence[OpenRouter], cache: Path, clock: Callable[[], float]) -> None:
        """Score into a cache.

        Args:
            routers: Who scores.
            cache: Folder of the win rates; made when needed.
            clock: Seconds, for what is said about the speed.
        """
        self._routers = {router.name: router for router in routers}
        self._cache = cache
        self._clock = clock

    def win_rates(self, name: str, prompts: Sequence[str]) -> Floats:
        """Return the win rates of a router, shape (n,), in the order of the prompts.

        Scored piece by piece: what a killed run has scored is read by the next one.

        Raises:
            StorageError: the cache cannot be written.
        """
        router = self._routers[name]
        folder = self._cache / router.artifact.sha256 / prompts_sha256(prompts)
        pieces = [prompts[start : start + TOKENIZE_ROWS] for start in range(0, len(prompts), TOKENIZE_ROWS)]
        found, scored, start_s = list[Floats](), 0, self._clock()
        with part_bar(f"score {name}", len(pieces)) as on_part:
            for number, piece in enumerate(pieces):
                path = folder / f"{number:05d}.parquet"
                rates = _read(path, len(piece))
                if rates is None:
                    if not scored:
                        say(f"{name}: scoring {len(prompts):,} prompts")
                    rates = router.router.win_rates(piece).win_rate
                    scored += len(piece)
                    self._write(path, rates)
                found.append(rates)
                on_part(number)
        taken_s = self._clock() - start_s
        if scored and taken_s >= 1.0:
            say(f"{name}: {scored:,} prompts scored in {taken_s:,.0f} s, {scored / taken_s:,.0f} a second")
        return np.concatenate(found)

    def _write(self, path: Path, rates: Floats) -> None:
        frame, digest = pl.DataFrame({"win_rate": rates}), _digest(rates)
        write_atomic(
            path,
            lambda draft: frame.write_parquet(draft, compression="zstd", metadata={_SHA256: digest}),
            self._cache / "staging",
        )


def _read(path: Path, n: int) -> Floats | None:
    """Return cached win rates; null where there are none, or the file is not what was written."""
    if not path.is_file():
        return None
    try:
        rates = pl.read_parquet(path, columns=["win_rate"])["win_rate"].to_numpy()
        digest = pl.read_parquet_metadata(path).get(_SHA256)
    except (pl.exceptions.PolarsError, OSError):
        rates, digest = np.empty(0), None
    if len(rates) == n and _digest(rates) == digest:
        return rates
    say(f"the cached win rates {path} are damaged; scored again")
    return None


def _digest(rates: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(rates, "<f8").tobytes()).hexdigest()
