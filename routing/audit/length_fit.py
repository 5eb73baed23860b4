"""Penalised quasi-likelihood of answer lengths whose tenants differ.

A tenant's answers are a factor longer or shorter than like answers to others. With factors of a gamma distribution the
likelihood of the coefficients alone is known in closed form, and concave (Hausman, Hall and Griliches, Econometrica
52, 1984): differences between tenants then teach little of what a covariate does, differences within one much, and a
covariate that tenants differ in is not taken for their factors. Where there is one tenant, it is Poisson's.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.metrics import Floats

MOST_LOG_TOKENS = 30.0
_STEPS, _SMALLEST_STEP = 50, 1e-8
_MOST_LEVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class Sample:
    """Answers to learn from, tenant by tenant."""

    design: Floats
    """Covariates, shape (n, p)."""
    lengths: Floats
    """Output tokens, shape (n,)."""
    starts: NDArray[np.intp]
    """First answer of each tenant, rising from 0, shape (k,)."""

    def by_tenant(self, values: Floats) -> Floats:
        """Return sums over the answers of each tenant: (n, ...) -> (k, ...)."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=0))

    def each(self, values: Floats) -> Floats:
        """Return the value of its tenant for each answer: (k, ...) -> (n, ...)."""
        return np.repeat(values, np.diff(self.starts, append=len(self.lengths)), axis=0)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What is climbed."""

    sample: Sample
    prior: Floats
    """Precision of each coefficient, times the dispersion of lengths; shape (p,)."""
    strength: float
    """Expected tokens from which on a tenant's own answers outweigh what others say; infinite: tenants are alike."""

    def expected(self, coefficients: Floats) -> Floats:
        """Return the expected length of each answer to a typical tenant, shape (n,)."""
        return np.asarray(np.exp(np.minimum(self.sample.design @ coefficients, MOST_LOG_TOKENS)))

    def factor(self, expected: Floats) -> Floats:
        """Return the factor of each tenant, shape (k,)."""
        whole = self.sample.by_tenant(expected)
        if math.isinf(self.strength):
            return np.ones(len(whole))
        return np.asarray((self.strength + self.sample.by_tenant(self.sample.lengths)) / (self.strength + whole))

    def fitted(self, coefficients: Floats) -> Floats:
        """Return the expected length of each answer to its own tenant, shape (n,)."""
        expected = self.expected(coefficients)
        return expected * self.sample.each(self.factor(expected))

    def height(self, coefficients: Floats) -> float:
        """Return the penalised quasi-likelihood."""
        lengths, whole = self.sample.lengths, self.sample.by_tenant(self.expected(coefficients))
        if not math.isinf(self.strength):
            whole = (self.strength + self.sample.by_tenant(lengths)) * np.log1p(whole / self.strength)
        return float(lengths @ (self.sample.design @ coefficients) - whole.sum() - 0.5 * self.prior @ coefficients**2)

    def newton(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """Return the gradient, shape (p,), and the negative Hessian, shape (p, p)."""
        design, expected = self.sample.design, self.expected(coefficients)
        factor = self.factor(expected)
        fitted = expected * self.sample.each(factor)
        gradient = design.T @ (self.sample.lengths - fitted) - self.prior * coefficients
        information = (design * fitted[:, None]).T @ design + np.diag(self.prior)
        pull = self._pull(expected)
        shared = factor / (self.strength + self.sample.by_tenant(expected))
        return gradient, information - (pull * shared[:, None]).T @ pull

    def climbed(self, coefficients: Floats) -> Floats:
        """Return the coefficients of the highest point, shape (p,): Newton, with steps halved where it falls."""
        height = self.height(coefficients)
        for _ in range(_STEPS):
            gradient, information = self.newton(coefficients)
            step = np.linalg.solve(information, gradient)
            reached = self.height(coefficients + step)
            while reached < height - 1e-9 * abs(height) and np.abs(step).max() > _SMALLEST_STEP:
                step = step / 2
                reached = self.height(coefficients + step)
            coefficients, height = coefficients + step, reached
            if np.abs(step).max() < _SMALLEST_STEP:
                break
        return coefficients

    def residuals(self, coefficients: Floats, inverse: Floats) -> tuple[Floats, Floats]:
        """Return each residual as if its own answer had not been fitted, shape (n,), and what it moves, shape (n, p).

        Args:
            coefficients: Of the highest point.
            inverse: Of the negative Hessian there.
        """
        expected = self.expected(coefficients)
        open_still = self.strength + self.sample.by_tenant(expected)
        own = self.sample.design - self.sample.each(self._pull(expected) / open_still[:, None])
        fitted = expected * self.sample.each(self.factor(expected))
        leverage = fitted * np.einsum("ij,jk,ik->i", own, inverse, own) + expected / self.sample.each(open_still)
        return (self.sample.lengths - fitted) / (1.0 - np.minimum(leverage, _MOST_LEVERAGE)), own

    def of_tenants(self, coefficients: Floats, variance: float) -> Floats:
        """Return the variance of the gradient that tenants of this variance leave in it, shape (p, p)."""
        if math.isinf(self.strength):
            return np.zeros((len(self.prior), len(self.prior)))
        expected = self.expected(coefficients)
        left = self.strength / (self.strength + self.sample.by_tenant(expected))
        pull = left[:, None] * self._pull(expected)
        return np.asarray(variance * pull.T @ pull)

    def _pull(self, expected: Floats) -> Floats:
        return self.sample.by_tenant(self.sample.design * expected[:, None])
