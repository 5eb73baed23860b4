"""Tenants whose answers are longer or shorter than those of others."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from routing.audit.answer_lengths import Answers, covariates_of, fit_lengths
from routing.audit.credibility import ASSUMED_DEGREES, TENANT_SPREAD
from routing.audit.what_if_tenants import Lengths, by_tenant


def learnt(lengths: list[list[float]], tenants: int | None = None) -> Lengths:
    """Answers of these lengths to calls that are alike, tenant by tenant; behind `tenants`, to strangers."""
    flat = np.array([length for own in lengths for length in own])
    tenant = np.repeat(np.arange(len(lengths)), [len(own) for own in lengths])
    alike = np.full(len(flat), 100.0), np.full(len(flat), 0.5)
    covariates = covariates_of(np.full(9, 100.0), np.full(9, 0.5))
    answers = Answers(*alike, flat, tenants=tenant)
    model = fit_lengths(answers, covariates, assumed=264.0, seed=0)
    return by_tenant(model, answers, tenants or len(lengths))


def noisy(mean: float, n: int, seed: int) -> list[float]:
    return list(np.random.default_rng(seed).gamma(4.0, mean / 4.0, n))


def test_a_tenant_with_many_answers_is_taken_at_its_word() -> None:
    means = [50.0, 100.0, 150.0, 200.0, 100.0, 80.0]
    found = learnt([noisy(mean, 2_000, i) for i, mean in enumerate(means)])
    overall = found.model.mean_output_tokens
    assert found.factor * overall == pytest.approx(means, rel=0.05)
    assert (found.by_others < 0.05).all()
    assert found.degrees == ASSUMED_DEGREES + 5


def test_a_tenant_with_few_answers_borrows_from_the_others() -> None:
    means = [50.0, 100.0, 150.0, 200.0, 100.0]
    found = learnt([*(noisy(mean, 500, i) for i, mean in enumerate(means)), [400.0]], tenants=7)
    overall = found.model.mean_output_tokens
    own = found.factor[5] * overall
    assert 100.0 < own < 350.0  # between the typical tenant and its only answer
    assert found.by_others[5] > 0.15
    # The seventh has no answer at all: a typical tenant, and as uncertain as tenants differ.
    assert found.factor[6] * overall == pytest.approx(120.0, rel=0.25)
    assert found.left[6] > found.left[5] > 4 * found.left[0]


def test_tenants_that_are_alike_have_no_factors() -> None:
    """A few hundred of them, with few answers each: the assumed spread has no say any more."""
    found = learnt([noisy(100.0, 30, i) for i in range(400)], tenants=401)
    assert found.factor == pytest.approx(np.ones(401), abs=0.05)
    assert found.left.max() < 0.002


def test_with_few_tenants_their_spread_is_assumed() -> None:
    found = learnt([noisy(100.0, 1_000, 0)], tenants=2)
    assert found.left[0] < 0.001
    assert found.left[1] == pytest.approx(TENANT_SPREAD**2, rel=0.05)
    assert found.common == pytest.approx(TENANT_SPREAD**2, rel=0.05)
    assert found.degrees == ASSUMED_DEGREES


def test_one_tenant_changes_nothing() -> None:
    found = learnt([noisy(100.0, 50, 0)])
    assert found.factor.tolist() == [1.0]
    assert found.left.tolist() == [0.0]
    assert found.centre.tolist() == [[0.0] * 14]
    assert found.common == 0.0


def test_tenants_without_any_answer_differ_as_tenants_do() -> None:
    found = learnt([[], [], []])
    assert found.factor.tolist() == [1.0] * 3
    assert found.left.tolist() == [TENANT_SPREAD**2] * 3
    assert found.common == 0.0  # that of all of them is in the assumed length


def test_answers_to_a_stranger_are_those_of_one_more_tenant() -> None:
    """One tenant, and a history of somebody else: its answers may be longer or shorter."""
    found = learnt([[], noisy(100.0, 2_000, 0)], tenants=1)
    assert found.factor == pytest.approx([1.0], abs=0.01)
    assert found.left == pytest.approx([TENANT_SPREAD**2], rel=0.05)
    assert found.common == pytest.approx(TENANT_SPREAD**2, rel=0.05)


def test_the_model_is_off_by_nothing_where_a_tenant_was_measured() -> None:
    """A tenant with many answers stands at its own covariates, one without any at the typical ones."""
    rng = np.random.default_rng(0)
    tenant = np.repeat(np.arange(6), 500)
    tokens = np.exp(rng.normal(5.0 + 0.5 * (tenant % 3), 0.3))
    answers = Answers(tokens, np.full(3_000, 0.5), rng.gamma(4.0, 25.0 * (1.0 + 0.3 * (tenant % 2))), tenants=tenant)
    covariates = covariates_of(answers.input_tokens, answers.win_rates)
    found = by_tenant(fit_lengths(answers, covariates, assumed=264.0, seed=0), answers, 7)
    design = covariates.design(answers.input_tokens, answers.win_rates)
    own = np.stack([design[tenant == number].mean(axis=0) for number in range(6)])
    assert_allclose(found.centre[:6], own, atol=0.1)
    assert_allclose(found.centre[6], own.mean(axis=0), atol=0.1)
    assert found.centre[:, 0] == pytest.approx(np.ones(7))  # so the level of the model itself is in no interval twice
