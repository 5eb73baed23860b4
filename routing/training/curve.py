"""The course of a training run as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from routing.errors import DataError
from routing.training.router import Progress

_SMOOTHING = 0.05
"""Share of a new step in the running mean of the training loss, which is noisy from step to step."""


def draw_curve(history: Sequence[Progress], path: Path, *, title: str) -> None:
    """Write a PNG of training loss, validation loss and held-out APGR over the steps.

    Args:
        history: What `routing.training.loop.train` returned.
        path: The file; its folder exists.
        title: Stands above the picture.

    Raises:
        DataError: there is nothing to draw.
    """
    if not history:
        raise DataError("a loss curve needs at least one training step, got none")
    # Agg draws into a file without a display and without pyplot's global state.
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    loss: Axes = figure.add_subplot()
    loss.set(title=title, xlabel="step", ylabel="loss")
    steps = [progress.step for progress in history]
    loss.plot(steps, [progress.loss for progress in history], color="tab:blue", alpha=0.2, linewidth=0.8)
    loss.plot(steps, _smooth([progress.loss for progress in history]), color="tab:blue", label="training")
    judged = [(p.step, p.validation_loss) for p in history if p.validation_loss is not None]
    if judged:
        loss.plot(*zip(*judged, strict=True), color="tab:red", marker="o", markersize=3, label="held out")
    measured = [(p.step, p.apgr) for p in history if p.apgr is not None]
    if measured:
        apgr = loss.twinx()
        apgr.set_ylabel("APGR, held out")
        apgr.plot(*zip(*measured, strict=True), color="tab:green", marker="s", markersize=3, linestyle="--")
        loss.plot([], [], color="tab:green", marker="s", markersize=3, linestyle="--", label="APGR (right)")
    loss.legend(loc="best")
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})


def _smooth(values: Sequence[float]) -> list[float]:
    mean, smoothed = values[0], []
    for value in values:
        mean += _SMOOTHING * (value - mean)
        smoothed.append(mean)
    return smoothed
