"""Lengths of answers that nobody wrote: the mean is learnt, and so is how sure it is."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from routing.audit.answer_lengths import (
    ENOUGH_ANSWERS,
    FEW_ANSWERS,
    MOST_ANSWERS,
    SLOPE,
    Answers,
    Covariates,
    LengthModel,
    covariates_of,
    drawn,
    fit_lengths,
    repeats,
)
from routing.estimate import LENGTH_SPREAD
from routing.metrics import Floats

ASSUMED = 264.0


def calls(n: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Input tokens and win rates, of which the latter rise with the former."""
    rng = np.random.default_rng(seed)
    tokens = np.exp(rng.normal(6.0, 1.0, n)).round()
    return tokens, np.clip(0.5 + 0.05 * (np.log(tokens) - 6.0) + rng.normal(0.0, 0.05, n), 0.0, 1.0)


def answers(n: int, *, power: float = 0.3, by_rate: float = 2.0, scatter: float = 0.25, seed: int = 0) -> Answers:
    """Gamma lengths: mean 20 * tokens ** power * exp(by_rate * (win_rate - .5)), variance scatter * mean ** 2."""
    tokens, rates = calls(n, seed)
    mean = 20.0 * tokens**power * np.exp(by_rate * (rates - 0.5))
    return Answers(tokens, rates, np.random.default_rng(seed + 1).gamma(1.0 / scatter, mean * scatter))


def model_of(some: Answers, covariates: Covariates | None = None) -> LengthModel:
    if covariates is None:
        covariates = covariates_of(*calls(2_000))
    return fit_lengths(some, covariates, assumed=ASSUMED, seed=0)


def sums(model: LengthModel, tokens: Floats, rates: Floats, draws: int = 2_000) -> Floats:
    """Draws of the mean length of calls, parameters alone."""
    design = model.covariates.design(tokens, rates)
    coefficients = model.coefficients + model.deviations(draws, np.random.default_rng(5))
    return np.asarray(np.exp(coefficients @ design.T).mean(axis=1))


@pytest.mark.parametrize("n", [FEW_ANSWERS, 30, 500])
def test_modelled_tokens_add_up_to_the_observed_ones(n: int) -> None:
    some = answers(n)
    model = model_of(some)
    fitted = model.mean(model.covariates.design(some.input_tokens, some.win_rates))
    assert fitted.sum() == pytest.approx(some.output_tokens.sum(), rel=1e-6)
    assert model.answers == n
    assert model.mean_output_tokens == pytest.approx(some.output_tokens.mean())


def test_a_known_law_is_found() -> None:
    some = answers(20_000)
    model = model_of(some)
    tokens, rates = calls(500, seed=9)
    true = 20.0 * tokens**0.3 * np.exp(2.0 * (rates - 0.5))
    typical = np.abs(np.log(tokens) - 6.0) < 2.0
    found = model.mean(model.covariates.design(tokens, rates))
    assert_allclose(found[typical], true[typical], rtol=0.1)
    assert np.abs(found[typical] / true[typical] - 1).mean() < 0.02
    design = model.covariates.design(tokens, rates)[typical]
    assert_allclose(model.variance(found[typical], design), 0.25 * true[typical] ** 2, rtol=0.35)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_variance_of_single_answers_follows_the_calls(power: float) -> None:
    """Lengths in steps of 20 tokens scatter like counts, gamma lengths in proportion to their mean."""
    tokens, rates = calls(20_000)
    mean = 20.0 * tokens**0.4
    rng = np.random.default_rng(1)
    lengths = 20.0 * rng.poisson(mean / 20.0) if power == 1.0 else rng.gamma(4.0, mean / 4.0)
    model = model_of(Answers(tokens, rates, np.asarray(lengths, np.float64)))
    for quantile in (0.05, 0.5, 0.95):
        asked = np.quantile(tokens, quantile)
        design = model.covariates.design(np.array([asked]), np.array([0.5 + 0.05 * (np.log(asked) - 6.0)]))
        true = 20.0 * 20.0 * asked**0.4 if power == 1.0 else (20.0 * asked**0.4) ** 2 / 4.0
        assert model.variance(model.mean(design), design)[0] == pytest.approx(true, rel=0.15)


def test_without_an_answer_the_assumed_length_is_right_within_half_and_double() -> None:
    for nothing in (Answers(np.empty(0), np.empty(0), np.empty(0)), Answers(np.ones(9), np.full(9, 0.5), np.zeros(9))):
        model = model_of(nothing)
        assert (model.answers, model.mean_output_tokens) == (0, ASSUMED)
        assert model.mean(model.covariates.design(np.array([50.0]), np.array([0.5])))[0] == pytest.approx(ASSUMED)
        intercept = np.exp(model.deviations(20_000, np.random.default_rng(0))[:, 0])
        assert np.quantile(intercept, [0.025, 0.975]) == pytest.approx([1 / LENGTH_SPREAD, LENGTH_SPREAD], rel=0.05)


def test_few_answers_are_trusted_no_more_than_an_assumption() -> None:
    few = Answers(np.array([10.0, 20.0]), np.array([0.5, 0.6]), np.array([80.0, 120.0]))
    model = model_of(few)
    assert (model.answers, model.mean_output_tokens) == (2, 100.0)
    assert model.by_prior[0, 0] == pytest.approx((math.log(LENGTH_SPREAD) / 1.96) ** 2, rel=1e-3)


def test_where_a_model_never_answered_the_prior_stays() -> None:
    """Answers to short prompts only: long ones are uncertain, and more so than by the data alone."""
    tokens, rates = calls(4_000)
    covariates = covariates_of(tokens, rates)
    some = answers(4_000)
    short = some.input_tokens < np.median(tokens)
    model = model_of(some.take(short), covariates)
    inside, outside = (
        sums(model, tokens[rows], rates[rows]).std() for rows in (short, tokens > np.quantile(tokens, 0.9))
    )
    assert outside > 5 * inside
    whole = model_of(some, covariates)
    assert sums(whole, tokens[~short], rates[~short]).std() < 0.3 * sums(model, tokens[~short], rates[~short]).std()


@pytest.mark.parametrize(("n", "chosen"), [(40, "any"), (400, "any"), (400, "low win rates"), (400, "short prompts")])
def test_intervals_hold_for_sums_along_the_win_rate(n: int, chosen: str) -> None:
    """Mean length of the answers to the upper third of win rates, with the scatter of single answers, 60 times."""
    inside = []
    for seed in range(60):
        some = answers(3 * n, seed=10 * seed, by_rate=3.0)
        lean = {"any": 0.0 * some.win_rates, "low win rates": -some.win_rates, "short prompts": -some.input_tokens}[
            chosen
        ]
        order = np.argsort(np.argsort(lean) + np.random.default_rng(seed).normal(0.0, n, 3 * n))
        fitted, others = some.take(order[-n:]), some.take(order[:-n])
        upper = others.take(others.win_rates > np.quantile(others.win_rates, 2 / 3))
        model = model_of(fitted, covariates_of(some.input_tokens, some.win_rates))
        design = model.covariates.design(upper.input_tokens, upper.win_rates)
        variance = model.variance(model.mean(design), design).sum()
        noise = np.random.default_rng(seed).normal(0.0, math.sqrt(variance) / len(upper), 2_000)
        low, high = np.quantile(sums(model, upper.input_tokens, upper.win_rates) + noise, [0.025, 0.975])
        inside.append(low <= upper.output_tokens.mean() <= high)
    assert np.mean(inside) >= 0.88  # an honest 95 % is below it once in a hundred times


@pytest.mark.parametrize(("own", "alike"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5)])
def test_answers_to_one_prompt_are_alike(own: float, alike: float) -> None:
    """600 prompts, asked five times each; `own` is the part of the variance that belongs to the prompt."""
    prompts = answers(600)
    rng = np.random.default_rng(2)
    noise = np.sqrt(own) * rng.normal(size=(600, 1)) + np.sqrt(1.0 - own) * rng.normal(size=(600, 5))
    five = np.repeat(np.arange(600), 5)
    mean = 20.0 * prompts.input_tokens**0.3
    some = Answers(
        prompts.input_tokens[five],
        prompts.win_rates[five],
        (mean[:, None] * (1.0 + 0.2 * noise)).ravel(),
        five.astype(np.uint64),
    )
    model = model_of(some)
    assert model.alike == pytest.approx(alike, abs=0.05)
    alone = model_of(Answers(some.input_tokens, some.win_rates, some.output_tokens))
    assert_allclose(model.by_data, model.design_effect(5.0) * alone.by_data, rtol=1e-9)
    assert alone.alike == pytest.approx(0.5)


def test_what_tenants_differ_in_is_not_taken_for_their_factors() -> None:
    """Answers to 60 tenants; those with long prompts have long answers for reasons of their own."""
    rng = np.random.default_rng(0)
    tenant = rng.integers(0, 60, 6_000)
    own = rng.normal(0.0, 0.5, 60)[tenant]
    tokens, rates = np.exp(rng.normal(6.0 + 2.0 * own, 0.5)), rng.beta(8.0, 8.0, 6_000)
    lengths = rng.gamma(4.0, 20.0 * tokens**0.3 * np.exp(own) / 4.0)
    covariates = covariates_of(tokens, rates)
    alone, found = (model_of(Answers(tokens, rates, lengths, tenants=whom), covariates) for whom in (None, tenant))

    def power(model: LengthModel) -> float:
        short, long = model.mean(covariates.design(np.exp([5.0, 7.0]), np.full(2, 0.5)))
        return math.log(long / short) / 2

    assert power(alone) > 0.6
    assert power(found) == pytest.approx(0.3, abs=0.05)


def test_answers_keep_their_tenants() -> None:
    two, three = np.ones(2), np.ones(3)
    some, more = Answers(two, two, two, tenants=np.array([4, 5])), Answers(three, three, three)
    assert some.with_more(more).whom.tolist() == [4, 5, 0, 0, 0]
    assert some.with_more(more).take(np.s_[1:3]).whom.tolist() == [5, 0]
    assert more.take(np.array([0])).tenants is None


def test_repeats_are_those_of_the_mean_call() -> None:
    assert repeats(np.array([7, 8, 9], np.uint64)) == 1.0
    assert repeats(np.array([7, 7, 7, 9], np.uint64)) == pytest.approx((3 * 3 + 1) / 4)


def test_answers_without_a_win_rate_are_used_while_others_are_few() -> None:
    known, unknown = answers(ENOUGH_ANSWERS - 1), answers(300, seed=4)
    unknown = Answers(unknown.input_tokens, np.full(300, np.nan), unknown.output_tokens)
    assert model_of(known.with_more(unknown)).answers == ENOUGH_ANSWERS + 299
    assert model_of(answers(ENOUGH_ANSWERS).with_more(unknown)).answers == ENOUGH_ANSWERS
    alone = model_of(unknown)
    assert alone.by_prior[2, 2] == pytest.approx(SLOPE**2, rel=1e-3)  # nothing was learnt of win rates


def test_many_answers_are_drawn_from() -> None:
    many = answers(MOST_ANSWERS + 1_000)
    model = model_of(many)
    assert model.answers == MOST_ANSWERS
    assert model.coefficients.tolist() == model_of(many).coefficients.tolist()


def test_equal_calls_and_equal_answers_are_no_trouble() -> None:
    same = covariates_of(np.full(50, 7.0), np.full(50, 0.5))
    model = model_of(Answers(np.full(50, 7.0), np.full(50, 0.5), np.full(50, 3.0)), same)
    design = same.design(np.array([7.0]), np.array([0.5]))
    assert model.mean(design)[0] == pytest.approx(3.0)
    assert model.variance(np.array([3.0]), design)[0] == pytest.approx(0.0)
    assert np.isfinite(model.deviations(100, np.random.default_rng(0))).all()


def test_lengths_grow_no_further_than_calls_are_known() -> None:
    """A prompt of a million tokens, asked of a model that was fitted on calls of a thousand."""
    model = model_of(answers(500, power=1.0))
    assert model.mean(model.covariates.design(np.array([1e9]), np.array([0.5])))[0] < 1e7


def test_draws_have_the_covariance_asked_for() -> None:
    covariance = np.array([[4.0, 1.0], [1.0, 1.0]])
    rng = np.random.default_rng(0)
    assert_allclose(np.cov(drawn(covariance, 50_000, rng, degrees=math.inf).T), covariance, rtol=0.05)
    assert_allclose(np.cov(drawn(covariance, 50_000, rng, degrees=10.0).T), covariance * 10 / 8, rtol=0.08)
