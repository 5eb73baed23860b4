"""`nightroute calibrate`: alpha for a share, a budget or a quality target, and win rates that mean what they say.

Nothing is sent, no key is needed. Every alpha belongs to one router: where a calibrated copy is written, to that copy,
and it is read from the very win rates that `nightroute run` will compare it with.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from jobs import console
from jobs.calibrate_config import CalibrateConfig, CalibrateJob
from jobs.calibrate_console import show
from jobs.calibrate_tables import Labels, find_table, read_labels, score_table, win_rates, with_costs
from jobs.config import RouterSection
from jobs.rundir import storing, write_json
from routing import artifact, calibrating, guarantee
from routing.artifact import RouterArtifact
from routing.errors import ConfigError
from routing.metrics import Floats, Interval
from routing.prices import price_snapshot
from routing.routers import DECIMALS, OnnxRouter
from schemas.artifact import WinRateCalibration
from schemas.calibration import BudgetTarget, CalibrationReport, PgrTarget, Range, ShareTarget


def calibrate(job: CalibrateJob) -> int:
    """Find what a config asks for, print it, write it as JSON; returns the exit code.

    Raises:
        NightrouteError: with the exit code of DESIGN section 9.
    """
    config = job.config
    router = artifact.load(artifact.locate(config.router.artifact, relative_to=job.base))
    labels = None if config.labels is None else read_labels(config.labels, job.base)
    _check_router(router, config, labels)
    if config.calibration is None:
        report = _found(job, router, labels, None)
    else:
        folder = _copy_folder(router, job)
        with _replacing(folder) as copy:
            report = _found(job, router, labels, copy).model_copy(update={"artifact": str(folder)})
    path = Path(os.path.normpath(job.base / config.output.path))
    write_json(path, report, path.parent)
    show(report)
    console.say(f"wrote {path}")
    console.emit(
        {"job": "calibrate", "status": "calibrated", "exit_code": 0, "output": str(path)}
        | report.model_dump(mode="json")
    )
    return 0


def _found(job: CalibrateJob, router: RouterArtifact, labels: Labels | None, copy: Path | None) -> CalibrationReport:
    """Find all that is asked for; a calibrated copy of the router is written where `copy` says."""
    config, now = job.config, datetime.now(UTC)
    table = None if config.input is None else find_table(job, config.input)
    rates = None if labels is None else _rates(labels, router, config.router)
    if copy is not None:
        assert labels is not None
        assert rates is not None
        router, rates = _calibrate(router, labels, rates, config, copy)
    scored = None
    if table is not None:
        scored = score_table(table, _open(router, config.router))
        if config.target.max_usd is not None:
            assert config.models is not None
            scored = with_costs(scored, config.models, price_snapshot(config.prices), at=now)
    return CalibrationReport(
        created_at=now,
        router=router.card.name,
        router_sha256=router.sha256,
        artifact=config.router.artifact,
        input_rows=None if scored is None else len(scored),
        labels_sha256=None if labels is None else labels.sha256,
        label_rows=None if labels is None else len(labels.rows),
        left_out={} if labels is None else labels.left_out,
        strong_share=_share(config, scored, rates),
        max_usd=_budget(config, scored),
        pgr=_pgr(config, labels, rates),
        calibration=router.card.calibration,
    )


def _check_router(router: RouterArtifact, config: CalibrateConfig, labels: Labels | None) -> None:
    """A router that starts at an embedding cannot be run for nothing."""
    if router.card.embedding is None:
        return
    if config.input is not None:
        raise ConfigError(
            f"router {router.card.name!r} starts at embeddings that are bought; [input] wants one that reads tokens: "
            "leave [input] out and map labels.columns.win_rate, or cut the table itself with `nightroute plan --embed`"
        )
    if labels is not None and labels.given is None:
        raise ConfigError(
            f"router {router.card.name!r} starts at embeddings that are bought; map labels.columns.win_rate to the win "
            "rates that it gave in a run"
        )


def _open(router: RouterArtifact, section: RouterSection) -> OnnxRouter:
    return OnnxRouter(router, threads=section.threads, token_budget=section.token_budget)


def _rates(labels: Labels, router: RouterArtifact, section: RouterSection) -> Floats:
    return labels.given if labels.given is not None else win_rates(labels, _open(router, section))


def _copy_folder(router: RouterArtifact, job: CalibrateJob) -> Path:
    """Return where the calibrated copy goes, before anything is scored for it."""
    section = job.config.calibration
    assert section is not None
    folder = Path(os.path.normpath(job.base / section.output))
    if folder.resolve() == router.folder.resolve():
        raise ConfigError(
            f"calibration.output {folder} is the router that is calibrated, which stays as it is; name another folder"
        )
    if find_spec("onnx") is None:
        raise ConfigError(
            "[calibration] writes a graph, which needs onnx, not installed here; run "
            "`pip install 'nightroute[train]'`, or leave it out (alphas need none of it)"
        )
    from routing.training.export import check_replaceable

    check_replaceable(folder)
    return folder


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a place for a new artifact; it becomes the folder at the end, if all went well."""
    with storing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".calibrated-", dir=folder.parent)
    with scratch as name:
        made, old = Path(name) / "new", Path(name) / "old"
        yield made
        with storing(folder):
            if folder.exists():
                folder.rename(old)
            made.rename(folder)


def _calibrate(
    router: RouterArtifact, labels: Labels, rates: Floats, config: CalibrateConfig, folder: Path
) -> tuple[RouterArtifact, Floats]:
    """Write the calibrated copy; return it and its win rates of the labels."""
    from routing.training.calibrated_graph import write_calibrated

    section = config.calibration
    assert section is not None
    strong, weak = labels.strong, labels.weak
    before = calibrating.fitness(rates, strong, weak)
    crossed = calibrating.cross_fitted(rates, strong, weak, section.method, seed=config.seed)
    after = calibrating.fitness(crossed, strong, weak)
    found = calibrating.fit(rates, strong, weak, section.method)

    def record(parity_error: float) -> WinRateCalibration:
        return WinRateCalibration(
            method=section.method,
            labels_sha256=labels.sha256,
            n=len(rates),
            ece_before=before.ece,
            ece_after=after.ece,
            log_loss_before=before.log_loss,
            log_loss_after=after.log_loss,
            parity_max_error=parity_error,
            base_sha256=router.sha256,
        )

    write_calibrated(
        router, folder, found, labels.prompts, record, name=section.name or f"{router.card.name}-calibrated"
    )
    made = artifact.load(folder)
    if labels.given is not None:
        return made, found.apply(rates).round(DECIMALS)
    return made, win_rates(labels, _open(made, config.router))


def _share(config: CalibrateConfig, scored: pl.DataFrame | None, rates: Floats | None) -> ShareTarget | None:
    wanted = config.target.strong_share
    if wanted is None:
        return None
    table = rates if scored is None else scored["win_rate"].to_numpy()
    assert table is not None
    found = guarantee.alpha_for_share(table, wanted)
    return ShareTarget(
        wanted=wanted,
        alpha=found.alpha,
        n=found.n,
        strong_share=_range(found.strong_share),
        next_table=_range(guarantee.next_share(found.n_strong, found.n, found.n)),
    )


def _budget(config: CalibrateConfig, scored: pl.DataFrame | None) -> BudgetTarget | None:
    max_usd = config.target.max_usd
    if max_usd is None:
        return None
    assert scored is not None
    found = guarantee.alpha_for_budget(scored, max_usd)
    return BudgetTarget(
        max_usd=max_usd,
        alpha=found.alpha,
        n=found.n,
        strong_share=_range(found.strong_share),
        expected_usd=found.expected_usd,
        next_usd=_range(found.next_usd),
    )


def _pgr(config: CalibrateConfig, labels: Labels | None, rates: Floats | None) -> PgrTarget | None:
    target = config.target
    if target.pgr is None:
        return None
    assert labels is not None
    assert rates is not None
    found = guarantee.alpha_for_pgr(
        rates, labels.strong, labels.weak, pgr=target.pgr, confidence=target.confidence, seed=config.seed
    )
    return PgrTarget(
        wanted=target.pgr,
        confidence=target.confidence,
        alpha=found.alpha,
        n=found.n,
        decided=found.decided,
        gap=found.gap,
        strong_share=None if found.strong_share is None else _range(found.strong_share),
        pgr=None if found.pgr is None else _range(found.pgr),
        labels_needed=found.labels_needed,
    )


def _range(interval: Interval) -> Range:
    return Range(value=interval.value, low=interval.low, high=interval.high)
