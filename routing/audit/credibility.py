"""How much tenants differ, given what each one's answers say and how surely (Paule and Mandel, 1982)."""

import numpy as np
from scipy import optimize

from routing.metrics import Floats

TENANT_SPREAD = 0.2
"""Standard deviation of their factor on the answer length that is assumed where nothing is known of it."""
ASSUMED_DEGREES = 4
"""Tenants that the assumption counts for."""


def between(ratio: Floats, noise: Floats) -> float:
    """Return the variance between tenants: estimated, and the assumed one as far as they are few.

    Args:
        ratio: Observed over expected tokens of each tenant, shape (k,).
        noise: Variance of that ratio, were all tenants alike, same shape.
    """
    known = len(ratio) - 1
    return (ASSUMED_DEGREES * TENANT_SPREAD**2 + known * _estimated(ratio, noise)) / (ASSUMED_DEGREES + known)


def degrees(tenants: int) -> float:
    """Return the degrees of freedom of that variance, where so many tenants had answers."""
    return ASSUMED_DEGREES + max(tenants - 1.0, 0.0)


def _estimated(ratio: Floats, noise: Floats) -> float:
    if len(ratio) < 2 or _excess(0.0, ratio, noise) <= 0:
        return 0.0
    most = len(ratio) * float(np.ptp(ratio)) ** 2  # there, they scatter less than expected
    return float(optimize.brentq(_excess, 0.0, most, args=(ratio, noise), rtol=1e-6))


def _excess(variance: float, ratio: Floats, noise: Floats) -> float:
    """How much more ratios scatter than those of tenants of this variance would."""
    weight = 1.0 / (variance + noise)
    return float(weight @ (ratio - weight @ ratio / weight.sum()) ** 2) - (len(ratio) - 1)
