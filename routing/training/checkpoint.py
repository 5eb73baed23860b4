"""Checkpoints of a training run: everything that its next step depends on, in one file, replaced in one move."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from routing.errors import ChangedRunError
from routing.training.router import Progress

FILE = "checkpoint.pt"


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name: with LoRA a small part of all."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


@dataclass(slots=True)
class State:
    """Where a run stands."""

    step: int = 0
    """Steps taken."""
    best_score: float = float("inf")
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best validation, on the CPU."""
    stale: int = 0
    """Validations since the best one."""
    history: list[Progress] = field(default_factory=list)

    def judge(self, module: nn.Module, score: float) -> None:
        """Keep the module's weights if their score is the lowest so far."""
        if score < self.best_score:
            self.best_score, self.stale = score, 0
            self.best = {name: weight.detach().to("cpu", copy=True) for name, weight in trained(module).items()}
        else:
            self.stale += 1

    def restore(self, module: nn.Module) -> None:
        """Put the best weights back."""
        _fill(module, self.best)


class Checkpoint:
    """The checkpoint file of one run."""

    def __init__(self, folder: Path | None, identity: str) -> None:
        """Name the file; nothing is read or written yet.

        Args:
            folder: Null keeps no checkpoint.
            identity: Data, config and seed; a file of another identity is refused.
        """
        self._folder = folder
        self._identity = hashlib.sha256(identity.encode()).hexdigest()

    def write(self, module: nn.Module, optimiser: torch.optim.Optimizer, state: State) -> None:
        """Replace the checkpoint in one move: a kill leaves the old one or the new one."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        staged = self._folder / f".{FILE}"
        content = {
            "identity": self._identity,
            "weights": {name: weight.detach() for name, weight in trained(module).items()},
            "optimiser": optimiser.state_dict(),
            "step": state.step,
            "best_score": state.best_score,
            "best": state.best,
            "stale": state.stale,
            "history": [asdict(progress) for progress in state.history],
        }
        torch.save(content, staged)
        staged.replace(self._folder / FILE)

    def resume(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> State | None:
        """Load the checkpoint into module and optimiser; null if there is none.

        Raises:
            ChangedRunError: it is of other data, another config or another seed, or it is damaged.
        """
        if self._folder is None or not (self._folder / FILE).is_file():
            return None
        path = self._folder / FILE
        remedy = "delete it to start anew, or name another folder"
        try:
            # weights_only: a checkpoint is data, and is never unpickled into code.
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ChangedRunError(f"checkpoint {path} cannot be read ({error}); {remedy}") from error
        if content["identity"] != self._identity:
            raise ChangedRunError(
                f"checkpoint {path} is of other training data, another config or another seed; {remedy}"
            )
        _fill(module, content["weights"])
        optimiser.load_state_dict(content["optimiser"])
        return State(
            step=content["step"],
            best_score=content["best_score"],
            best=content["best"],
            stale=content["stale"],
            history=[Progress(**progress) for progress in content["history"]],
        )


def _fill(module: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trained(module).items():
            parameter.copy_(weights[name])
