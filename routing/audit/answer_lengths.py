"""How long a model's answers would have been, learnt from answers that it did give; and how sure that is.

Mean length = exp(covariates @ coefficients). The covariates are 1, the logarithm of the input tokens, the win rate,
bends of both, and their product: prompts of high win rates tend to have longer answers, so a model on the prompt's
length alone is off along alpha. They are fitted by Poisson quasi-likelihood (Wedderburn, Biometrika 61, 1974), whose
modelled tokens add up to the observed ones, under a weak prior that no covariate matters. The prior is what keeps the
uncertainty honest: where a model answered only one kind of prompt, the data say nothing of the other kind, and the
prior's spread stays.

Lengths are no Poisson counts: the covariance of the coefficients is a sandwich with residuals taken without their own
answer (HC3: MacKinnon and White, J. Econometrics 29, 1985). Answers to one tenant are alike as well: the fit knows of
their factors (`routing.audit.length_fit`), and what these leave open of the coefficients is in the covariance. The
variance of single answers is mean ** POWER times a factor that is fitted on the same covariates in the same way.
Answers to one prompt are alike, so that many calls of few prompts say less than as many different ones: by Kish's
design effect (Survey Sampling, 1965), with the correlation that the residuals show.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.audit.credibility import TENANT_SPREAD, between
from routing.audit.length_fit import MOST_LOG_TOKENS, Likelihood, Sample
from routing.estimate import LENGTH_SPREAD
from routing.metrics import Floats

BENDS = 5
"""Bends of each covariate, at quantiles of the calls."""
SLOPE, BEND, TOGETHER = 0.5, 0.2, 0.1
"""Standard deviations of the prior: change of the log length per standard deviation of a covariate, change of that
change at a bend, and the same for the product of both covariates."""
FEW_ANSWERS = 5
"""With fewer, their mean is as uncertain as an assumed one."""
ENOUGH_ANSWERS = 200
"""With as many that have a win rate, those without are left out."""
MOST_ANSWERS = 50_000
"""More are drawn from: they would say the same."""
POWER = 1.5
"""Variance of a single answer = mean ** POWER * factor: between that of counts (1) and that of proportions (2)."""
ASSUMED_SCATTER = 1.0
"""Variance over squared mean of single answers, where too few are known."""
ALIKE, ALIKE_PAIRS = 0.5, 20
"""Correlation of answers to one prompt where none occurs twice; and as many pairs as it counts for."""

_FURTHEST = 5.0
_ROUNDS = 3
_LEAST_DISPERSION = 0.01
"""Answers that are all of one length leave the prior its say where there are none."""
_LEAST_SCATTER = 1e-12
_REFERENCE_ROWS = 50_000

Digests = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of one model."""

    input_tokens: Floats
    """Shape (n,)."""
    win_rates: Floats
    """Of their prompts, same shape; NaN where the prompt is unknown."""
    output_tokens: Floats
    """Same shape."""
    prompts: Digests | None = None
    """Digests of their prompts, same shape; null where all are different."""
    tenants: NDArray[np.intp] | None = None
    """Numbers of those they were given to, same shape; null where it is one."""

    def __len__(self) -> int:
        return len(self.output_tokens)

    def take(self, rows: NDArray[Any] | slice) -> "Answers":
        """Return some of the answers: positions, a mask or a slice."""
        return Answers(
            self.input_tokens[rows],
            self.win_rates[rows],
            self.output_tokens[rows],
            None if self.prompts is None else self.prompts[rows],
            None if self.tenants is None else self.tenants[rows],
        )

    def telling(self) -> "Answers":
        """Return the answers to learn from: those with a win rate, where they are enough."""
        known = ~np.isnan(self.win_rates)
        return self.take(known) if int(known.sum()) >= ENOUGH_ANSWERS else self

    def with_more(self, others: "Answers") -> "Answers":
        """Return these answers and others."""
        return Answers(
            np.concatenate([self.input_tokens, others.input_tokens]),
            np.concatenate([self.win_rates, others.win_rates]),
            np.concatenate([self.output_tokens, others.output_tokens]),
            np.concatenate([self.digests, others.digests]),
            np.concatenate([self.whom, others.whom]),
        )

    @property
    def digests(self) -> Digests:
        """Digests of the prompts; numbers where all are different."""
        return np.arange(len(self), dtype=np.uint64) if self.prompts is None else self.prompts

    @property
    def whom(self) -> NDArray[np.intp]:
        """Numbers of the tenants."""
        return np.zeros(len(self), np.intp) if self.tenants is None else self.tenants


@dataclass(frozen=True, slots=True)
class Covariates:
    """What an answer's length may depend on, in units of the calls that it is asked for."""

    centres: Floats
    """Of the logarithm of the input tokens and of the win rate, shape (2,)."""
    spreads: Floats
    """Shape (2,)."""
    bends: Floats
    """In standard units, shape (2, BENDS)."""
    means: Floats
    """Of all columns but the first over the calls, shape (p - 1,): taken off, so that the intercept is a mean."""

    def design(self, input_tokens: Floats, win_rates: Floats) -> Floats:
        """Return the covariates of calls, shape (n, p); a win rate that is NaN counts as the mean one."""
        values = np.column_stack([np.log(np.maximum(input_tokens, 1.0)), win_rates])
        standard = np.clip((values - self.centres) / self.spreads, -_FURTHEST, _FURTHEST)
        standard = np.where(np.isnan(standard), 0.0, standard)
        bent = [np.maximum(standard[:, [i]] - self.bends[i], 0.0) for i in range(2)]
        columns = np.column_stack([standard, *bent, standard[:, 0] * standard[:, 1]]) - self.means
        return np.column_stack([np.ones(len(columns)), columns])

    @property
    def precision(self) -> Floats:
        """Of the prior, shape (p,); none for the intercept."""
        return np.array([0.0] + [SLOPE**-2] * 2 + [BEND**-2] * (2 * BENDS) + [TOGETHER**-2])


@dataclass(frozen=True, slots=True)
class LengthModel:
    """Mean answer length of one model, with what is uncertain of it."""

    covariates: Covariates
    coefficients: Floats
    """Shape (p,), the intercept first."""
    by_data: Floats
    """Covariance of the coefficients from the answers, shape (p, p)."""
    by_prior: Floats
    """Covariance from what the answers leave open, shape (p, p)."""
    degrees: float
    """Of freedom of `by_data`; infinite where it is assumed."""
    scatter: Floats
    """Coefficients of the logarithm of that factor, shape (p,)."""
    alike: float
    """Correlation of answers to one prompt."""
    answers: int
    """That it was fitted on; 0: assumed."""
    mean_output_tokens: float
    """Of those answers, or as assumed."""

    def mean(self, design: Floats) -> Floats:
        """Return the expected output tokens of calls, shape (n,), for covariates of shape (n, p)."""
        return np.asarray(np.exp(np.minimum(design @ self.coefficients, MOST_LOG_TOKENS)))

    def variance(self, mean: Floats, design: Floats) -> Floats:
        """Return the variance of single answers around their expected length, shape (n,), tokens squared."""
        return np.asarray(mean**POWER * np.exp(np.minimum(design @ self.scatter, MOST_LOG_TOKENS)))

    def design_effect(self, repeats: float) -> float:
        """Return by how much the variance of a sum grows where prompts repeat (see `repeats`)."""
        return 1.0 + self.alike * (repeats - 1.0)

    def deviations(self, draws: int, rng: np.random.Generator) -> Floats:
        """Draw how far the coefficients may be off, shape (draws, p): multivariate t, and the prior's normal."""
        by_data = drawn(self.by_data, draws, rng, degrees=self.degrees)
        return by_data + drawn(self.by_prior, draws, rng, degrees=math.inf)


def covariates_of(input_tokens: Floats, win_rates: Floats) -> Covariates:
    """Return the covariates for calls, n >= 1, whose input tokens and win rates have shape (n,)."""
    rows = np.linspace(0, len(win_rates) - 1, min(len(win_rates), _REFERENCE_ROWS)).astype(np.intp)
    values = np.column_stack([np.log(np.maximum(input_tokens[rows], 1.0)), win_rates[rows]])
    centres, spreads = values.mean(axis=0), values.std(axis=0)
    spreads = np.where(spreads > 1e-9, spreads, 1.0)  # a covariate that is the same for all says nothing
    places = np.quantile(values, np.arange(1, BENDS + 1) / (BENDS + 1), axis=0).T
    bends = (places - centres[:, None]) / spreads[:, None]
    plain = Covariates(centres, spreads, bends, np.zeros(2 * BENDS + 3))
    return replace(plain, means=plain.design(input_tokens[rows], win_rates[rows])[:, 1:].mean(axis=0))


def repeats(prompts: Digests) -> float:
    """Return how often the prompt of a call occurs, as the mean over calls: sum(n^2) / sum(n) over prompts."""
    times = np.unique(prompts, return_counts=True)[1].astype(np.float64)
    return float(times @ times / times.sum())


def drawn(covariance: Floats, draws: int, rng: np.random.Generator, *, degrees: float) -> Floats:
    """Draw from a multivariate t of mean zero, shape (draws, p); a normal where its degrees are infinite."""
    values, vectors = np.linalg.eigh(covariance)
    normal = (rng.standard_normal((draws, len(values))) * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    if math.isinf(degrees):
        return np.asarray(normal)
    return np.asarray(normal * np.sqrt(degrees / rng.chisquare(degrees, (draws, 1))))


def fit_lengths(answers: Answers, covariates: Covariates, *, assumed: float, seed: int) -> LengthModel:
    """Fit the lengths of a model's answers.

    Args:
        answers: Any number.
        covariates: Of the calls whose answers are asked for.
        assumed: Mean output tokens where no answer, or none that is not empty, is known: then 95 % sure within half
            and double.
        seed: Draws from more than `MOST_ANSWERS`.
    """
    answers = answers.telling()
    if len(answers) > MOST_ANSWERS:
        answers = answers.take(np.random.default_rng(seed).choice(len(answers), MOST_ANSWERS, replace=False))
    if not answers.output_tokens.sum() > 0:
        return _assumed(covariates, assumed, 0)
    if len(answers) < FEW_ANSWERS:
        return _assumed(covariates, float(answers.output_tokens.mean()), len(answers))
    return _fitted(covariates, answers)


def _assumed(covariates: Covariates, output_tokens: float, answers: int) -> LengthModel:
    prior = np.concatenate([[(math.log(LENGTH_SPREAD) / 1.959963984540054) ** 2], 1.0 / covariates.precision[1:]])
    nothing = np.zeros((len(prior), len(prior)))
    return LengthModel(
        covariates=covariates,
        coefficients=_intercept(len(prior), output_tokens),
        by_data=nothing,
        by_prior=np.diag(prior),
        degrees=math.inf,
        scatter=_intercept(len(prior), ASSUMED_SCATTER * output_tokens ** (2.0 - POWER)),
        alike=ALIKE,
        answers=answers,
        mean_output_tokens=output_tokens,
    )


def _fitted(covariates: Covariates, answers: Answers) -> LengthModel:
    answers = answers.take(np.argsort(answers.whom, kind="stable"))
    n, mean = len(answers), float(answers.output_tokens.mean())
    starts = np.unique(answers.whom, return_index=True)[1]
    sample = Sample(covariates.design(answers.input_tokens, answers.win_rates), answers.output_tokens, starts)
    coefficients = _intercept(len(covariates.precision), mean)
    dispersion = max(float(answers.output_tokens.var(ddof=1)) / mean, _LEAST_DISPERSION)
    apart = TENANT_SPREAD**2 if len(starts) > 1 else 0.0
    for _ in range(_ROUNDS):  # prior and tenants weigh as the dispersion says, which depends on the fit
        likelihood = Likelihood(sample, dispersion * covariates.precision, dispersion / apart if apart else math.inf)
        coefficients = likelihood.climbed(coefficients)
        information = likelihood.newton(coefficients)[1]
        inverse = np.asarray(np.linalg.inv(information), np.float64)
        expected, fitted = likelihood.expected(coefficients), likelihood.fitted(coefficients)
        whole = sample.by_tenant(expected)
        parameters = float(np.trace(inverse @ (information - np.diag(likelihood.prior))))
        parameters += float((whole / (whole + likelihood.strength)).sum())
        residuals = float(((sample.lengths - fitted) ** 2 / fitted).sum())
        dispersion = max(residuals / max(n - parameters, 1.0), _LEAST_DISPERSION)
        if len(starts) > 1:
            apart = between(sample.by_tenant(sample.lengths) / whole, dispersion / whole)
    residual, moves = likelihood.residuals(coefficients, inverse)
    scatter = _scatter(sample, residual**2 / fitted**POWER, covariates.precision)
    alike = _alike(residual / fitted ** (POWER / 2), answers.digests)
    weighted = moves * residual[:, None]
    single = (1.0 + alike * (repeats(answers.digests) - 1.0)) * (weighted.T @ weighted)
    open_still = dispersion * np.diag(likelihood.prior)
    return LengthModel(
        covariates=covariates,
        coefficients=coefficients,
        by_data=inverse @ (single + likelihood.of_tenants(coefficients, apart)) @ inverse,
        by_prior=inverse @ open_still @ inverse,
        degrees=n - 1.0,
        scatter=scatter,
        alike=alike,
        answers=n,
        mean_output_tokens=mean,
    )


def _scatter(sample: Sample, squares: Floats, precision: Floats) -> Floats:
    """Fit squared residuals over mean ** POWER, shape (n,), as lengths are; returns coefficients, shape (p,)."""
    mean = max(float(squares.mean()), _LEAST_SCATTER)
    dispersion = max(float(squares.var()) / mean, _LEAST_DISPERSION)
    alike = Likelihood(replace(sample, lengths=squares), dispersion * precision, math.inf)
    return alike.climbed(_intercept(len(precision), mean))


def _intercept(p: int, mean: float) -> Floats:
    """Return coefficients that say the same of all calls, shape (p,)."""
    return np.array([math.log(mean)] + [0.0] * (p - 1))


def _alike(residual: Floats, prompts: Digests) -> float:
    """Return the correlation of answers to one prompt, 0..1, from residuals of equal variance, shape (n,)."""
    _, prompt, times = np.unique(prompts, return_inverse=True, return_counts=True)
    pairs = float((times * (times - 1.0)).sum())
    products = float((np.bincount(prompt, residual) ** 2).sum() - residual @ residual)
    level = float(residual @ residual) / len(residual)
    seen = products / level if level > 0 else pairs
    return float(np.clip((seen + ALIKE_PAIRS * ALIKE) / (pairs + ALIKE_PAIRS), 0.0, 1.0))
