"""Tenants whose answers are longer or shorter than those of others."""

import numpy as np
import pytest

from routing.audit.answer_lengths import Answers, covariates_of, fit_lengths
from routing.audit.what_if_tenants import TENANT_SPREAD, Lengths, by_tenant


def learnt(lengths: list[list[float]], tenants: int | None = None) -> Lengths:
    """Tenants with answers of these lengths to calls that are alike."""
    flat = np.array([length for own in lengths for length in own])
    tenant = np.repeat(np.arange(len(lengths)), [len(own) for own in lengths])
    alike = np.full(len(flat), 100.0), np.full(len(flat), 0.5)
    covariates = covariates_of(np.full(9, 100.0), np.full(9, 0.5))
    model = fit_lengths(Answers(*alike, flat), covariates, assumed=264.0, seed=0)
    return by_tenant(model, Answers(*alike, flat), tenant, tenants or len(lengths))


def noisy(mean: float, n: int, seed: int) -> list[float]:
    return list(np.random.default_rng(seed).gamma(4.0, mean / 4.0, n))


def test_a_tenant_with_many_answers_is_taken_at_its_word() -> None:
    means = [50.0, 100.0, 150.0, 200.0, 100.0, 80.0]
    found = learnt([noisy(mean, 2_000, i) for i, mean in enumerate(means)])
    overall = found.model.mean_output_tokens
    assert found.factor * overall == pytest.approx(means, rel=0.05)
    assert (found.by_others < 0.05).all()
    assert found.degrees == 5


def test_a_tenant_with_few_answers_borrows_from_the_others() -> None:
    means = [50.0, 100.0, 150.0, 200.0, 100.0]
    found = learnt([*(noisy(mean, 500, i) for i, mean in enumerate(means)), [400.0]], tenants=7)
    overall = found.model.mean_output_tokens
    own = found.factor[5] * overall
    assert 100.0 < own < 350.0  # between the typical tenant and its only answer
    assert found.by_others[5] > 0.3
    # The seventh has no answer at all: a typical tenant, and as uncertain as tenants differ.
    assert found.factor[6] * overall == pytest.approx(120.0, rel=0.25)
    assert found.left[6] > found.left[5] > 4 * found.left[0]


def test_tenants_that_are_alike_have_no_factors() -> None:
    found = learnt([noisy(100.0, 300, i) for i in range(40)])
    assert found.factor == pytest.approx(np.ones(40), abs=0.03)
    assert found.left.max() < 0.002


def test_with_few_tenants_their_spread_is_assumed() -> None:
    found = learnt([noisy(100.0, 1_000, 0)], tenants=2)
    assert found.left[0] < 0.001
    assert found.left[1] == pytest.approx(TENANT_SPREAD**2, rel=0.05)
    assert np.isinf(found.degrees)


@pytest.mark.parametrize("lengths", [[noisy(100.0, 50, 0)], [[], [], []]])
def test_one_tenant_or_no_answer_changes_nothing(lengths: list[list[float]]) -> None:
    found = learnt(lengths)
    assert found.factor.tolist() == [1.0] * len(lengths)
    assert found.left.tolist() == [0.0] * len(lengths)
    assert found.common == 0.0
