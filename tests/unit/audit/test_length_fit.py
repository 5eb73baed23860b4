"""The quasi-likelihood of answer lengths whose tenants differ."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from routing.audit.length_fit import Likelihood, Sample

P = 3
PRIOR = np.array([0.0, 2.0, 0.5])


def sample(*, tenants: int = 5, apart: float = 0.0, seed: int = 0) -> Sample:
    """Lengths of mean 50 * exp(.4 x - .2 z); x, not z, goes with the tenant's own factor."""
    rng = np.random.default_rng(seed)
    starts = np.arange(0, 40 * tenants, 40)
    own = np.repeat(rng.normal(0.0, apart, tenants), 40)
    x, z = rng.normal(3.0 * own, 1.0), rng.normal(0.0, 1.0, 40 * tenants)
    mean = 50.0 * np.exp(0.4 * x - 0.2 * z + own)
    return Sample(np.column_stack([np.ones(len(x)), x, z]), rng.gamma(4.0, mean / 4.0), starts)


@pytest.mark.parametrize("strength", [30.0, 3_000.0, math.inf])
def test_gradient_and_hessian_are_those_of_the_height(strength: float) -> None:
    likelihood = Likelihood(sample(apart=0.3), PRIOR, strength)
    at, step = np.array([3.5, 0.2, 0.1]), 1e-5
    gradient, information = likelihood.newton(at)
    for i in range(P):
        one = step * np.eye(P)[i]
        slope = (likelihood.height(at + one) - likelihood.height(at - one)) / (2 * step)
        assert gradient[i] == pytest.approx(slope, rel=1e-5)
        bend = (likelihood.newton(at - one)[0] - likelihood.newton(at + one)[0]) / (2 * step)
        assert_allclose(information[i], bend, rtol=1e-6, atol=1e-4)


def test_tenants_that_hardly_differ_are_poissons() -> None:
    some = sample()
    poisson = Likelihood(some, PRIOR, math.inf)
    assert_allclose(Likelihood(some, PRIOR, 1e9).climbed(np.zeros(P)), poisson.climbed(np.zeros(P)), rtol=1e-4)
    assert poisson.factor(poisson.expected(np.zeros(P))).tolist() == [1.0] * 5


def test_what_tenants_differ_in_is_not_taken_for_their_factors() -> None:
    """Tenants of longer answers have a larger x: alone, Poisson's slope is far off."""
    some = sample(tenants=40, apart=0.4)
    alone = Likelihood(some, PRIOR, math.inf).climbed(np.zeros(P))
    found = Likelihood(some, PRIOR, 20.0 / 0.4**2)
    coefficients = found.climbed(np.zeros(P))
    assert alone[1] > 0.5
    assert coefficients[1:] == pytest.approx([0.4, -0.2], abs=0.04)
    fitted, lengths = (some.by_tenant(values) for values in (found.fitted(coefficients), some.lengths))
    assert_allclose(fitted, lengths, rtol=0.25)  # those of the shortest answers are drawn furthest to the others


def test_residuals_are_those_of_a_fit_without_the_answer() -> None:
    some = sample(apart=0.3)
    likelihood = Likelihood(some, PRIOR, 200.0)
    found = likelihood.climbed(np.zeros(P))
    residuals, own = likelihood.residuals(found, np.asarray(np.linalg.inv(likelihood.newton(found)[1]), np.float64))
    for left_out in (0, 57, 199):
        rest = np.arange(200) != left_out
        starts = some.starts - (some.starts > left_out)
        without = Likelihood(Sample(some.design[rest], some.lengths[rest], starts), PRIOR, 200.0)
        coefficients = without.climbed(found)
        factor = without.factor(without.expected(coefficients))[left_out // 40]
        expected = factor * np.exp(some.design[left_out] @ coefficients)
        assert residuals[left_out] == pytest.approx(some.lengths[left_out] - expected, rel=0.05, abs=0.5)
    assert abs(own[:, 0].mean()) < 0.1  # what is the same for all answers of a tenant moves little
