"""What a what-if needs besides the log. It is read first: what is wrong with it is known before hours of log are."""

from dataclasses import dataclass

import polars as pl

from jobs.audit_config import AuditJob, WhatIfModel, WhatIfSection
from jobs.audit_history import read_history
from jobs.calibrate_tables import Labels, read_labels
from jobs.evaluate_scores import OpenRouter
from routing.artifact import check_reads_tokens, load, locate
from routing.audit.what_if_routed import PairModel
from routing.errors import ConfigError
from routing.matching import NAME, resolve_models
from routing.routers import OnnxRouter


@dataclass(frozen=True, slots=True)
class WhatIfInputs:
    """What `[what_if]` names, opened."""

    section: WhatIfSection
    router: OpenRouter
    strong: PairModel
    weak: PairModel
    labels: Labels | None
    history: dict[str, pl.DataFrame]
    """Model -> answers (see `jobs.audit_history.read_history`)."""

    @property
    def pair(self) -> tuple[PairModel, PairModel]:
        """The strong and the weak model."""
        return self.strong, self.weak


def read_inputs(job: AuditJob, prices: pl.DataFrame) -> WhatIfInputs | None:
    """Open what `[what_if]` names; None where there is none.

    Args:
        job: The audit.
        prices: See `routing.prices.price_snapshot`.

    Raises:
        ArtifactError: the router cannot be used.
        ConfigError: it starts at embeddings; or prices do not know a model of the pair.
        DataError: labels or history break their layout.
        InputMissingError: labels or history are not there.
    """
    section = job.config.what_if
    if section is None:
        return None
    strong, weak = _priced(section.strong, prices), _priced(section.weak, prices)
    return WhatIfInputs(
        section=section,
        router=_open_router(job, section),
        strong=strong,
        weak=weak,
        labels=None if section.labels is None else read_labels(section.labels, job.base),
        history={}
        if section.history is None
        else read_history(job.path(section.history), (strong.name, weak.name), seed=section.seed),
    )


def _open_router(job: AuditJob, section: WhatIfSection) -> OpenRouter:
    artifact = load(locate(section.router.artifact, relative_to=job.base))
    advice = "an audit buys nothing: take a router whose graph starts at tokens"
    check_reads_tokens(artifact, said=f"what_if.router: {artifact.card.name!r}", advice=advice)
    router = OnnxRouter(artifact, threads=section.router.threads, token_budget=section.router.token_budget)
    return OpenRouter(artifact.card.name, artifact, router)


def _priced(model: WhatIfModel, prices: pl.DataFrame) -> PairModel:
    found = PairModel(model.name, model.provider, model.base_url)
    names = pl.DataFrame([found.served], schema=dict.fromkeys(NAME, pl.String))
    if resolve_models(names, prices)["price_model"].drop_nulls().is_empty():
        raise ConfigError(
            f"what_if: no price is known for {model.name!r}; correct its name or provider, or add [[prices]] for it"
        )
    return found
