"""The training loop on one linear layer, where every step can be followed."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("matplotlib", reason="needs the extra `train`")

from torch import Tensor  # noqa: E402

from routing.errors import ChangedRunError, ConfigError, DataError  # noqa: E402
from routing.training.batches import epoch_steps, steps_per_epoch  # noqa: E402
from routing.training.curve import draw_curve  # noqa: E402
from routing.training.loop import (  # noqa: E402
    LoopConfig,
    Objective,
    Validation,
    held_out_apgr,
    learning_rate,
    pick_device,
    train,
)
from routing.training.router import Progress, Run  # noqa: E402

CONFIG = LoopConfig(learning_rate=0.05, epochs=4, batch_rows=16, batch_tokens=10_000, eval_every=5)
SLOPE = torch.tensor([1.0, -2.0, 0.5])


class Line:
    """Regression with dropout on the inputs, so that a step depends on random numbers."""

    def __init__(self, n: int = 100, *, dropout: float = 0.2) -> None:
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(n, 3, generator=generator)
        self.y = self.x @ SLOPE
        self.layer = torch.nn.Linear(3, 1)
        with torch.no_grad():
            self.layer.weight.zero_()
            self.layer.bias.fill_(0.3)
        self.module = torch.nn.Sequential(torch.nn.Dropout(dropout), self.layer)
        self.seen: list[int] = []
        self.lengths = np.arange(n) % 7 + 1

    def losses(self, rows: np.ndarray) -> Tensor:
        self.seen += rows.tolist()
        result: Tensor = (self.module(self.x[rows]).squeeze(1) - self.y[rows]).square()
        return result

    def validate(self) -> Validation:
        assert not self.module.training
        return Validation(loss=float((self.module(self.x).squeeze(1) - self.y).square().mean()), apgr=None)

    def objective(self) -> Objective:
        weights = np.linspace(0.5, 1.5, len(self.x))
        return Objective(self.module, self.losses, self.lengths, weights, self.validate, "line")

    def weights(self) -> np.ndarray:
        return np.asarray(torch.cat([self.layer.weight[0], self.layer.bias]).detach().numpy())


def run_of(checkpoints: Path | None = None, report: object = None, seed: int = 0) -> Run:
    return Run(seed, 1, "cpu", report or (lambda progress: None), checkpoints)  # type: ignore[arg-type]


def test_training_finds_the_line_and_sees_every_row_once_an_epoch() -> None:
    line = Line(dropout=0.0)
    alike = replace(line.objective(), weights=np.full(100, 0.3))
    train(alike, replace(CONFIG, epochs=60, weight_decay=0.0), run_of())
    assert line.weights() == pytest.approx([1.0, -2.0, 0.5, 0.0], abs=0.02)
    assert sorted(line.seen[:100]) == list(range(100))
    assert line.seen[:100] != line.seen[100:200]


def test_a_killed_run_goes_on_to_the_very_same_weights(tmp_path: Path) -> None:
    whole: list[Progress] = []
    uninterrupted = Line()
    train(uninterrupted.objective(), CONFIG, run_of(report=whole.append))

    class KilledError(Exception):
        pass

    def until_step_13(progress: Progress) -> None:
        if progress.step == 13:
            raise KilledError

    killed = Line()
    with pytest.raises(KilledError):
        train(killed.objective(), CONFIG, run_of(tmp_path, until_step_13))
    reports: list[Progress] = []
    resumed = Line()
    train(resumed.objective(), CONFIG, run_of(tmp_path, reports.append))
    assert (resumed.weights() == uninterrupted.weights()).all()
    # Steps 1 to 10, nine of 16 rows and the short last one of an epoch, were not taken again.
    assert resumed.seen == uninterrupted.seen[9 * 16 + 4 :]
    assert reports == whole
    again = Line()
    train(again.objective(), CONFIG, run_of(tmp_path))
    assert (again.weights() == uninterrupted.weights()).all()
    assert not again.seen


def test_a_foreign_or_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(Line().objective(), CONFIG, run_of(tmp_path))
    with pytest.raises(ChangedRunError, match="another config or another seed; delete it"):
        train(Line().objective(), replace(CONFIG, learning_rate=0.01), run_of(tmp_path))
    with pytest.raises(ChangedRunError, match="another seed"):
        train(Line().objective(), CONFIG, run_of(tmp_path, seed=1))
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(ChangedRunError, match="cannot be read"):
        train(Line().objective(), CONFIG, run_of(tmp_path))


def test_the_seed_decides_and_the_callers_random_numbers_stay_as_they_were() -> None:
    first, same, other = Line(), Line(), Line()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train(first.objective(), CONFIG, run_of())
    assert (torch.random.get_rng_state() == before).all()
    train(same.objective(), CONFIG, run_of())
    train(other.objective(), CONFIG, run_of(seed=1))
    assert (first.weights() == same.weights()).all()
    assert (first.weights() != other.weights()).any()


def test_the_token_budget_changes_memory_and_not_the_result() -> None:
    whole, pieces = Line(dropout=0.0), Line(dropout=0.0)
    train(whole.objective(), CONFIG, run_of())
    train(pieces.objective(), replace(CONFIG, batch_tokens=12), run_of())
    assert pieces.weights() == pytest.approx(whole.weights(), abs=1e-5)


def test_training_stops_without_progress_and_keeps_the_best_weights() -> None:
    line = Line(dropout=0.0)
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0, 0.5])
    kept: list[np.ndarray] = []

    def validate() -> Validation:
        kept.append(line.weights().copy())
        return Validation(next(losses), None)

    reports: list[Progress] = []
    objective = replace(line.objective(), validate=validate)
    train(objective, replace(CONFIG, epochs=20, patience=3), run_of(report=reports.append))
    assert reports[-1].step == 25
    assert (line.weights() == kept[1]).all()
    assert [p.validation_loss for p in reports if p.validation_loss is not None] == [3.0, 1.0, 2.0, 2.0, 2.0]


def test_the_highest_apgr_can_decide_instead_of_the_lowest_loss() -> None:
    line = Line(dropout=0.0)
    judged = iter([Validation(1.0, 0.5), Validation(3.0, 0.7), Validation(0.5, 0.6), Validation(0.1, 0.6)])
    kept: list[np.ndarray] = []

    def validate() -> Validation:
        kept.append(line.weights().copy())
        return next(judged)

    objective = replace(line.objective(), validate=validate)
    train(objective, replace(CONFIG, epochs=20, patience=2, keep="apgr"), run_of())
    assert len(kept) == 4
    assert (line.weights() == kept[1]).all()


def test_a_finished_run_takes_no_further_step(tmp_path: Path) -> None:
    first, again = Line(dropout=0.0), Line(dropout=0.0)
    config = replace(CONFIG, epochs=20, patience=1)
    for line in (first, again):
        judged = partial(next, iter([Validation(1.0, None), Validation(2.0, None)]))
        train(replace(line.objective(), validate=judged), config, run_of(checkpoints=tmp_path))
    assert (again.weights() == first.weights()).all()


@given(st.lists(st.floats(0.0, 9.0), min_size=5, max_size=60), st.integers(0, 99))
def test_a_row_is_drawn_as_often_as_its_weight_says(weights: list[float], seed: int) -> None:
    weight = np.array([*weights, 1.0])
    steps = epoch_steps(np.full(len(weight), 7), weight, rows=4, tokens=64, seed=seed)
    drawn = np.bincount(np.concatenate([rows for step in steps for rows in step]), minlength=len(weight))
    assert drawn.sum() == len(weight)
    assert (np.abs(drawn - len(weight) * weight / weight.sum()) < 1.0 + 1e-6).all()


def test_biases_do_not_decay() -> None:
    line = Line(dropout=0.0)
    weights = {"weight": line.layer.weight, "bias": line.layer.bias}
    with torch.no_grad():
        line.layer.weight.fill_(1.0)

    def flat(rows: np.ndarray) -> Tensor:
        result: Tensor = (0.0 * line.module(line.x[rows])).squeeze(1)
        return result

    before = {name: weight.detach().clone() for name, weight in weights.items()}
    train(replace(line.objective(), losses=flat), replace(CONFIG, weight_decay=0.5, max_steps=5), run_of())
    assert (weights["weight"] < before["weight"]).all()
    assert (weights["bias"] == before["bias"]).all()


def test_a_long_gradient_is_clipped() -> None:
    line = Line(dropout=0.0)
    steep = replace(line.objective(), losses=lambda rows: 1e6 * line.losses(rows))
    norms: list[float] = []

    def validate() -> Validation:
        norms.append(float(torch.cat([p.grad.flatten() for p in line.module.parameters()]).norm()))
        return Validation(1.0, None)

    train(replace(steep, validate=validate), replace(CONFIG, eval_every=1, max_steps=3, clip_norm=0.7), run_of())
    assert norms == pytest.approx([0.7] * 3, rel=1e-3)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_and_learning_rate(broken: float) -> None:
    line = Line()
    steps = iter(range(100))
    bad = replace(line.objective(), losses=lambda rows: line.losses(rows) * (broken if next(steps) == 2 else 1.0))
    with pytest.raises(
        ConfigError, match=r"diverged at step 3 of 28: loss (nan|inf), .* at learning rate 5\.00e-02; lower"
    ):
        train(bad, CONFIG, run_of())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_names_the_batch_and_what_to_change(error: Exception) -> None:
    def exhausted(rows: np.ndarray) -> Tensor:
        raise error

    with pytest.raises(
        ConfigError, match=r"out of memory on cpu in a pass of \d+ rows .* \(batch_tokens = 10000\): lower"
    ):
        train(replace(Line().objective(), losses=exhausted), CONFIG, run_of())


def test_a_bug_is_not_called_a_lack_of_memory() -> None:
    def wrong(rows: np.ndarray) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        train(replace(Line().objective(), losses=wrong), CONFIG, run_of())


def test_nothing_to_fit_is_said() -> None:
    with pytest.raises(DataError, match="0 training rows"):
        train(replace(Line().objective(), lengths=np.empty(0, np.int64), weights=np.empty(0)), CONFIG, run_of())
    with pytest.raises(DataError, match="total weight of 0"):
        train(replace(Line().objective(), weights=np.zeros(100)), CONFIG, run_of())
    with pytest.raises(ConfigError, match="batch_rows must be at least 1, got 0"):
        replace(CONFIG, batch_rows=0)
    with pytest.raises(ConfigError, match="device must be cpu, cuda or auto"):
        pick_device("tpu")


def test_the_learning_rate_rises_and_decays() -> None:
    linear = replace(CONFIG, warmup_share=0.2, decay="linear")
    rates = [learning_rate(linear, step, 10) / 0.05 for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert learning_rate(replace(linear, decay="cosine"), 6, 10) == pytest.approx(0.025)
    assert learning_rate(replace(linear, decay="constant"), 9, 10) == pytest.approx(0.05)


def test_steps_hold_rows_of_similar_length_and_passes_keep_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 1_000)
    steps = epoch_steps(lengths, np.ones(len(lengths)), rows=32, tokens=2_048, seed=1)
    assert len(steps) == steps_per_epoch(lengths, 32) == 32
    assert sorted(np.concatenate([np.concatenate(step) for step in steps]).tolist()) == list(range(1_000))
    passes = [rows for step in steps for rows in step]
    padded = sum(len(rows) * lengths[rows].max() for rows in passes)
    assert max(len(rows) * lengths[rows].max() for rows in passes) <= 2_048
    assert padded < 1.1 * lengths.sum()
    means = [lengths[np.concatenate(step)].mean() for step in steps]
    assert abs(np.corrcoef(means, np.arange(32))[0, 1]) < 0.5  # short steps do not come first
    assert [
        len(rows) for step in epoch_steps(lengths, np.ones(len(lengths)), rows=4, tokens=1, seed=1) for rows in step
    ] == [1] * 1_000


def test_held_out_apgr_is_that_of_the_labels() -> None:
    target = np.array([1.0, 1.0, 1.0, 0.5, 0.0])
    # Perfect order: PGR 0, 1/2, 1, 3/2, 3/2, 1 at the six shares; trapezoids over steps of 1/5.
    assert held_out_apgr(np.array([0.9, 0.8, 0.7, 0.6, 0.1]), target) == pytest.approx((0.5 + 1 + 1.5 + 1.5 + 0.5) / 5)
    assert held_out_apgr(np.full(5, 0.5), target) == pytest.approx(0.5)
    assert held_out_apgr(target, 1.0 - target) is None


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    history = [
        Progress(i, 20, 1 / (i + 1), 0.5 if i % 5 == 4 else None, 0.6 if i % 5 == 4 else None) for i in range(20)
    ]
    draw_curve(history, tmp_path / "a.png", title="loss")
    draw_curve(history[:-1], tmp_path / "b.png", title="loss")
    first = (tmp_path / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert first != (tmp_path / "b.png").read_bytes()
    with pytest.raises(DataError, match="at least one training step"):
        draw_curve([], tmp_path / "c.png", title="loss")
