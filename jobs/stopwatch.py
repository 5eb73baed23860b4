"""How long the stages of a job take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopwatch:
    """Seconds per stage."""

    clock: Callable[[], float] = time.monotonic
    timings_s: dict[str, float] = field(default_factory=dict)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.clock()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap to a stage."""
        now = self.clock()
        self.timings_s[stage] = now - self._at
        self._at = now
