"""One training loop for every router that learns by gradient steps: `mf`, `bert`, `causal_llm`.

What happens in a step depends on the seed and the step alone: the order of the rows on (seed, epoch), dropout and noise
on (seed, step). A run continued from a checkpoint therefore takes the very steps that an uninterrupted one takes.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from routing.errors import ConfigError, DataError
from routing.metrics import cost_quality_curve
from routing.training.batches import Step, epoch_steps, steps_per_epoch
from routing.training.checkpoint import Checkpoint, State, trained
from routing.training.router import Progress, Run

Decay = Literal["linear", "cosine", "constant"]

_CPU_MEMORY = ("can't allocate memory", "not enough memory")
"""What torch's CPU allocator says, in a plain RuntimeError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Hyperparameters of the optimisation."""

    learning_rate: float
    epochs: int
    max_steps: int | None = None
    """Ends training early in the last or an earlier epoch; the learning rate decays to this end."""
    batch_rows: int
    """Rows of a step: what the gradient is averaged over."""
    batch_tokens: int = 8_192
    """Padded tokens of one forward pass. A step with more is run in pieces and accumulated: this bounds memory and
    changes no result."""
    warmup_share: float = 0.1
    """Share of the steps in which the learning rate rises from 0."""
    decay: Decay = "linear"
    weight_decay: float = 0.01
    """AdamW's; matrices only, not biases and norms."""
    clip_norm: float = 1.0
    """Longest gradient."""
    eval_every: int
    """Steps between validations, which also write the checkpoint; the last step is always validated."""
    patience: int = 0
    """Validations without a better one after which training stops; 0 never stops."""
    keep: Literal["loss", "apgr"] = "loss"
    """Which validation is the best, and exported: that of the lowest loss, or of the highest APGR."""

    def __post_init__(self) -> None:
        whole = {"epochs": self.epochs, "batch_rows": self.batch_rows, "batch_tokens": self.batch_tokens}
        whole |= {"eval_every": self.eval_every, "max_steps": 1 if self.max_steps is None else self.max_steps}
        for name, value in whole.items():
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if not (self.learning_rate > 0 and self.clip_norm > 0):
            raise ConfigError(
                f"learning_rate and clip_norm must be above 0, got {self.learning_rate} and {self.clip_norm}"
            )
        if not (0 <= self.warmup_share < 1 and self.weight_decay >= 0 and self.patience >= 0):
            raise ConfigError(
                "warmup_share must lie in [0, 1), weight_decay and patience must not be negative, got "
                f"{self.warmup_share}, {self.weight_decay} and {self.patience}"
            )


@dataclass(frozen=True, slots=True)
class Validation:
    """How the router does on the held-out rows, without noise."""

    loss: float
    """Weighted mean of the loss that is trained; early stopping watches it."""
    apgr: float | None
    """Null where the held-out labels favour the weak side: no gap, no share of it."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is fitted: the loop knows neither tokens nor battles."""

    module: nn.Module
    """Trained in place, already on its device."""
    losses: Callable[[NDArray[np.intp]], Tensor]
    """Training rows -> their losses, shape (rows,), differentiable; noise and dropout happen in here."""
    lengths: NDArray[np.int64]
    """Tokens of each training row, shape (n,)."""
    weights: NDArray[np.float64]
    """Share of each training row in the loss, shape (n,): how often it is drawn."""
    validate: Callable[[], Validation]
    """Called in eval mode without gradients."""
    identity: str
    """Digest of data and config: a checkpoint of another identity is not continued."""


def train(objective: Objective, config: LoopConfig, run: Run) -> None:
    """Fit a module in place and leave the weights of its best validation in it, in eval mode.

    A run that goes on from a checkpoint first repeats the reports of its steps so far, so that a curve is whole.

    Raises:
        DataError: no training row, or no row with a weight.
        ConfigError: the loss is not finite, or memory does not suffice.
        ChangedRunError: the checkpoint is of other data or another config.
    """
    if not len(objective.lengths) or not objective.weights.sum() > 0:
        raise DataError(
            f"{len(objective.lengths)} training rows with a total weight of {objective.weights.sum():g}: there is "
            "nothing to fit; check the filters, the split and the weights of the sources"
        )
    device = next(objective.module.parameters()).device
    steps = config.epochs * steps_per_epoch(objective.lengths, config.batch_rows)
    steps = min(steps, config.max_steps or steps)
    checkpoint = Checkpoint(
        run.checkpoints, f"{objective.identity} {config} seed {run.seed} weights {_digest(objective.weights)}"
    )
    optimiser = _optimiser(objective.module, config)
    state = checkpoint.resume(objective.module, optimiser) or State()
    for progress in state.history:
        run.report(progress)
    with _deterministic(device, threads=run.threads):
        for step, batch in _remaining(objective, config, run.seed, state.step, steps):
            if config.patience and state.stale >= config.patience:
                break
            torch.manual_seed(_seed(run.seed, step))
            rate = learning_rate(config, step, steps)
            loss = _step(objective, optimiser, batch, config, rate, f"step {step + 1} of {steps}")
            state.step = step + 1
            progress = Progress(step=state.step, steps=steps, loss=loss)
            if state.step % config.eval_every == 0 or state.step == steps:
                progress = _validated(objective, progress)
                state.judge(objective.module, _score(progress, config.keep))
            state.history.append(progress)
            run.report(progress)
            if progress.validation_loss is not None:
                checkpoint.write(objective.module, optimiser, state)
    state.restore(objective.module)
    objective.module.eval()


def learning_rate(config: LoopConfig, step: int, steps: int) -> float:
    """Return the learning rate of the step with this number, counted from 0, of `steps`."""
    warmup = math.ceil(config.warmup_share * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    left = (steps - step) / max(steps - warmup, 1)
    shape = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}
    return config.learning_rate * shape[config.decay]


def pick_device(name: str) -> torch.device:
    """Return the device that `cpu`, `cuda` or `auto` means here.

    Raises:
        ConfigError: another name, or CUDA is wanted and absent.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise ConfigError(f"device must be cpu, cuda or auto, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch finds no GPU here; set device to auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def use_threads(threads: int) -> None:
    """Fix torch's threads for the rest of the process: another number adds floats in another order."""
    torch.set_num_threads(threads)


def held_out_apgr(win_rates: NDArray[np.float64], target: NDArray[np.float64]) -> float | None:
    """Return the APGR of win rates on labels, null where the labels do not favour the strong side.

    Args:
        win_rates: Shape (n,).
        target: 1 where the strong side won, one half for a tie; same shape.
    """
    if not target.mean() > 0.5:
        return None
    return cost_quality_curve(win_rates, target, 1.0 - target).apgr


def _remaining(
    objective: Objective, config: LoopConfig, seed: int, done: int, steps: int
) -> Iterator[tuple[int, Step]]:
    lengths, weights = objective.lengths, objective.weights
    an_epoch = steps_per_epoch(lengths, config.batch_rows)
    for epoch in range(done // an_epoch, config.epochs):
        planned = epoch_steps(
            lengths, weights, rows=config.batch_rows, tokens=config.batch_tokens, seed=_seed(seed, -1 - epoch)
        )
        for step, batch in enumerate(planned, start=epoch * an_epoch):
            if done <= step < steps:
                yield step, batch


def _step(
    objective: Objective, optimiser: torch.optim.Optimizer, batch: Step, config: LoopConfig, rate: float, place: str
) -> float:
    """Take one optimiser step; return the step's mean loss."""
    module = objective.module.train()
    device = next(module.parameters()).device
    share = 1.0 / sum(len(rows) for rows in batch)
    optimiser.zero_grad(set_to_none=True)
    mean = 0.0
    for rows in batch:
        with _memory_told(config, device, rows, objective.lengths):
            # bf16 has the range of fp32, so no loss is scaled; on CPUs it is slower than fp32.
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                losses = objective.losses(rows)
            loss = losses.float().sum() * share
            torch.autograd.backward(loss)
        mean += loss.item()
    norm = float(nn.utils.clip_grad_norm_(list(trained(module).values()), config.clip_norm))
    if not (math.isfinite(mean) and math.isfinite(norm)):
        raise ConfigError(
            f"training diverged at {place}: loss {mean:g}, gradient norm {norm:g} at learning rate {rate:.2e}; lower "
            "learning_rate, raise warmup_share, or lower clip_norm"
        )
    for group in optimiser.param_groups:
        group["lr"] = rate
    with _memory_told(config, device, batch[0], objective.lengths):  # its first step takes twice the weights' memory
        optimiser.step()
    return mean


def _validated(objective: Objective, progress: Progress) -> Progress:
    objective.module.eval()
    with torch.no_grad():
        found = objective.validate()
    if not math.isfinite(found.loss):
        raise ConfigError(
            f"the held-out loss is {found.loss:g} at step {progress.step} of {progress.steps}: lower learning_rate, or "
            "hold out more labels"
        )
    return Progress(progress.step, progress.steps, progress.loss, validation_loss=found.loss, apgr=found.apgr)


def _score(validated: Progress, keep: Literal["loss", "apgr"]) -> float:
    """Return what is to be small; labels that favour the weak side have no APGR, and are judged by their loss."""
    if keep == "apgr" and validated.apgr is not None:
        return -validated.apgr
    return float("inf") if validated.validation_loss is None else validated.validation_loss


def _optimiser(module: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    parameters = list(trained(module).values())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)


def _digest(values: NDArray[np.float64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _seed(seed: int, step: int) -> int:
    """Mix two numbers into a seed; steps count from 0, epochs from -1 downwards, so that no two share one."""
    return int(np.random.SeedSequence([seed, int(step < 0), abs(step)]).generate_state(1, np.uint32)[0])


@contextmanager
def _deterministic(device: torch.device, *, threads: int) -> Iterator[None]:
    """Fix threads and, on the CPU, algorithms; leave the caller's random numbers and settings as they were."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    # CUDA has no deterministic form of some of the operators needed here.
    torch.use_deterministic_algorithms(mode=device.type == "cpu")
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(mode=strict)


@contextmanager
def _memory_told(
    config: LoopConfig, device: torch.device, rows: NDArray[np.intp], lengths: NDArray[np.int64]
) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        told = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not told and not any(text in str(error) for text in _CPU_MEMORY):
            raise
        raise ConfigError(
            f"out of memory on {device.type} in a pass of {len(rows)} rows of up to {lengths[rows].max()} tokens "
            f"(batch_tokens = {config.batch_tokens}): lower batch_tokens, which changes no result; if a pass has one "
            "row, read fewer tokens of a prompt, use LoRA or gradient checkpointing, or take a smaller base"
        ) from error
