"""Alpha for tables and labels to come: hand-computed examples, and the promises kept on real labels."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from routing.artifact import BUILTIN, load
from routing.benchmarks import graded
from routing.errors import ConfigError, DataError
from routing.guarantee import (
    alpha_for_budget,
    alpha_for_pgr,
    alpha_for_share,
    largest_alpha,
    next_share,
    share_interval,
)
from routing.routers import OnnxRouter
from schemas.billing import USD

STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
RESAMPLES = 200


class Known:
    """A benchmark with the shipped router's win rates: as a source, its own population."""

    def __init__(self, data: Path, name: str) -> None:
        rows = graded(
            pl.read_parquet(data / "benchmarks" / f"{name}.parquet"), name=name, strong=STRONG, weak=WEAK
        ).rows
        self.rates = np.asarray(OnnxRouter(load(BUILTIN / "static-mf")).win_rates(rows["prompt"].to_list()).win_rate)
        self.gain = (rows["strong_score"] - rows["weak_score"]).to_numpy()

    def pgr(self, alpha: float) -> float:
        return float(self.gain[self.rates >= alpha].sum() / self.gain.sum())


@pytest.fixture(scope="module", params=["gsm8k", "mmlu"])
def known(request: pytest.FixtureRequest, nightroute_data: Path) -> Known:
    return Known(nightroute_data, request.param)


# ---- a strong share -------------------------------------------------------------------------------------------------

TIED = np.array([0.9, 0.5, 0.5, 0.5, 0.1])


@pytest.mark.parametrize(
    ("share", "alpha", "n_strong"),
    [(0.0, 1.0, 0), (0.1, 1.0, 0), (0.2, 0.9, 1), (0.49, 0.9, 1), (0.51, 0.5, 4), (0.9, 0.5, 4), (1.0, 0.1, 5)],
)
def test_equal_win_rates_go_together_and_the_nearest_share_is_taken(share: float, alpha: float, n_strong: int) -> None:
    found = alpha_for_share(TIED, share)
    assert (found.alpha, found.n_strong, found.n) == (alpha, n_strong, 5)
    assert int((found.alpha <= TIED).sum()) == n_strong


def test_certain_wins_cannot_be_kept_from_the_strong_model() -> None:
    found = alpha_for_share(np.array([1.0, 0.2]), 0.0)
    assert (found.alpha, found.n_strong) == (1.0, 1)


def test_share_interval_is_that_of_clopper_and_pearson() -> None:
    # 3 of 10, from the tables of the paper's successors: .0667 to .6525.
    found = share_interval(3, 10)
    assert [found.value, found.low, found.high] == pytest.approx([0.3, 0.0667395, 0.6524529], abs=1e-6)
    assert (share_interval(0, 10).low, share_interval(10, 10).high) == (0.0, 1.0)
    assert share_interval(0, 10).high == pytest.approx(1 - 0.025**0.1)


def test_the_next_table_varies_more_than_its_source() -> None:
    source, table = share_interval(300, 1_000), next_share(300, 1_000, 1_000)
    assert table.low < source.low < 0.3 < source.high < table.high
    # About sqrt(2) times as wide: two samples of a thousand, not one.
    assert (table.high - table.low) / (source.high - source.low) == pytest.approx(2**0.5, abs=0.02)


@pytest.mark.parametrize(("n", "rows"), [(200, 200), (400, 150)])
def test_intervals_of_a_share_hold_what_they_say_and_not_much_more(n: int, rows: int) -> None:
    """Their exact coverage: over all tables of n rows, and all next ones, from a source with a share of 0.3."""
    found = range(n + 1)
    chance = stats.binom.pmf(found, n, 0.3)
    source, table = [share_interval(k, n) for k in found], [next_share(k, n, rows) for k in found]
    of_source = sum(p for p, one in zip(chance, source, strict=True) if one.low <= 0.3 <= one.high)
    ends = np.array([(one.low * rows, one.high * rows) for one in table]).round()
    of_table = chance @ (stats.binom.cdf(ends[:, 1], rows, 0.3) - stats.binom.cdf(ends[:, 0] - 1, rows, 0.3))
    assert 0.95 <= of_source <= 0.97
    assert 0.95 <= of_table <= 0.975


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_alpha_from_half_of_a_table_meets_its_share_on_the_other_half(known: Known, share: float) -> None:
    """Within the 95 % interval for the other half, in at least as many of 200 halvings as chance allows."""
    rng, half = np.random.default_rng(0), len(known.rates) // 2
    inside = 0
    for _ in range(RESAMPLES):
        order = rng.permutation(len(known.rates))
        found = alpha_for_share(known.rates[order[:half]], share)
        assert found.n_strong / half == pytest.approx(share, abs=0.01)
        others = known.rates[order[half:]]
        interval = next_share(found.n_strong, found.n, len(others))
        inside += interval.low <= (others >= found.alpha).mean() <= interval.high
    assert inside >= stats.binom.ppf(0.001, RESAMPLES, 0.95)


@pytest.mark.parametrize("share", [-0.1, 1.01, 30.0])
def test_a_share_is_no_percentage(share: float) -> None:
    with pytest.raises(ConfigError, match=r"strong_share must lie in \[0, 1\]"):
        alpha_for_share(TIED, share)


def test_no_rows_have_no_alpha() -> None:
    with pytest.raises(DataError, match="no rows to read alpha from"):
        alpha_for_share(np.array([]), 0.5)


# ---- a budget -------------------------------------------------------------------------------------------------------


def priced(rates: list[float], strong: list[str], weak: list[str]) -> pl.DataFrame:
    usd = {
        name: pl.Series(name, [Decimal(one) for one in values], USD)
        for name, values in (("strong_usd", strong), ("weak_usd", weak))
    }
    return pl.DataFrame({"win_rate": pl.Series(rates, dtype=pl.Float64)}).with_columns(**usd)


PRICED = priced([0.9, 0.8, 0.8, 0.1], ["0.4", "0.3", "0.2", "0.1"], ["0.01"] * 4)
"""All weak 0.04; from the highest win rate on 0.43, then 0.91 with both at 0.8, then 1.0."""


@pytest.mark.parametrize(
    ("max_usd", "alpha", "usd"),
    [
        ("0.04", 1.0, "0.04"),
        ("0.42", 1.0, "0.04"),
        ("0.43", 0.9, "0.43"),
        ("0.9", 0.9, "0.43"),
        ("0.91", 0.8, "0.91"),
        ("5", 0.1, "1.0"),
    ],
)
def test_the_budget_is_kept_with_whole_groups_of_equal_win_rates(max_usd: str, alpha: float, usd: str) -> None:
    found = alpha_for_budget(PRICED, Decimal(max_usd))
    assert (found.alpha, found.expected_usd) == (alpha, Decimal(usd))
    assert found.n_strong == int((PRICED["win_rate"] >= alpha).sum())
    assert found.next_usd.low <= float(found.expected_usd) <= found.next_usd.high


def test_a_budget_below_all_weak_or_without_prices_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"less than the 0\.040000 expected"):
        alpha_for_budget(PRICED, Decimal("0.0399"))
    with pytest.raises(ConfigError, match=r"needs prices for both models, but \['strong_usd'\]"):
        alpha_for_budget(PRICED.with_columns(strong_usd=pl.lit(None, USD)), Decimal(1))


def test_the_cost_of_the_next_table_lies_in_its_interval() -> None:
    rng, draws = np.random.default_rng(0), 400

    def drawn() -> pl.DataFrame:
        rates, cost = rng.uniform(size=400).round(3), rng.exponential(0.01, 400)
        strong = pl.Series((cost * (1 + rates)).round(6)).cast(USD)
        return pl.DataFrame({"win_rate": rates}).with_columns(strong_usd=strong, weak_usd=pl.lit(Decimal("0.001"), USD))

    inside = 0
    for _ in range(draws):
        found = alpha_for_budget(drawn(), Decimal(3))
        other = drawn().with_columns(pl.col("strong_usd", "weak_usd").cast(pl.Float64))
        usd = other.select(
            pl.when(pl.col("win_rate") >= found.alpha).then("strong_usd").otherwise("weak_usd").sum()
        ).item()
        inside += found.next_usd.low <= usd <= found.next_usd.high
    assert stats.binom.ppf(0.001, draws, 0.95) <= inside <= stats.binom.ppf(0.999, draws, 0.97)


def test_the_spread_of_a_table_is_that_of_a_sample() -> None:
    found = alpha_for_budget(priced([0.9, 0.1], ["0.3", "0.3"], ["0.1", "0.1"]), Decimal("0.5"))
    assert found.alpha == 0.9
    # Costs .3 and .1: a variance of .02 each with n - 1, two tables of two rows.
    assert found.next_usd.high == pytest.approx(0.4 + 1.96 * np.sqrt(2 * 2 * 0.02), abs=1e-4)
    alone = alpha_for_budget(priced([0.9], ["0.3"], ["0.1"]), Decimal("0.5"))
    assert (alone.next_usd.low, alone.next_usd.high) == (0.3, 0.3)


# ---- a share of the quality gap -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pgr", "confidence"), [(0.5, 0.9), (0.8, 0.95)])
def test_the_guarantee_holds_in_its_stated_share_of_200_resamples(known: Known, pgr: float, confidence: float) -> None:
    rng, kept, shares = np.random.default_rng(0), 0, []
    for seed in range(RESAMPLES):
        rows = rng.integers(len(known.rates), size=1_000)
        alpha = largest_alpha(known.rates[rows], known.gain[rows], pgr=pgr, level=1 - confidence, seed=seed)
        assert alpha is not None
        kept += known.pgr(alpha) >= pgr
        shares.append((known.rates >= alpha).mean())
    assert kept >= confidence * RESAMPLES
    # And it is no empty promise: all strong would keep it as well.
    assert np.mean(shares) < 0.5 + 0.5 * pgr


def test_few_labels_keep_the_guarantee_too() -> None:
    """A t test does not: labels that nearly always tie are far from normal."""
    rng, kept, found = np.random.default_rng(1), 0, 0
    for seed in range(RESAMPLES):
        rates = rng.uniform(size=60)
        gain = np.where(rng.random(60) < 0.5, np.where(rng.random(60) < 0.55 + 0.3 * rates, 1.0, -1.0), 0.0)
        alpha = largest_alpha(rates, gain, pgr=0.5, level=0.1, seed=seed)
        # E[gain | rate] is .05 + .3 rate: above a share 1 - alpha lies 1 - (.05 a + .15 a^2) / .2 of the gap.
        kept += alpha is None or 1 - (0.05 * alpha + 0.15 * alpha**2) / 0.2 >= 0.5
        found += alpha is not None and alpha > 0.05
    assert kept >= 0.9 * RESAMPLES
    # And it is no empty promise: some of these tables do show something.
    assert found >= 0.1 * RESAMPLES


def test_a_bet_that_was_won_stays_won_when_the_gap_is_gone() -> None:
    order = np.random.default_rng(0).permutation(61)  # in which the labels are bet on
    gain = np.empty(61)
    gain[order] = [1.0] * 30 + [-1.0] * 31
    found = alpha_for_pgr(np.full(61, 0.5), gain.clip(0), (-gain).clip(0), pgr=0.5, confidence=0.6, seed=0)
    assert (found.alpha, found.pgr, found.labels_needed) == (0.5, None, None)
    assert found.gap < 0
    assert found.strong_share is not None
    assert found.strong_share.value == 1.0


def test_more_labels_and_less_confidence_find_a_smaller_share(known: Known) -> None:
    rng = np.random.default_rng(0)

    def mean_share(n: int, confidence: float) -> float:
        drawn = (rng.integers(len(known.rates), size=n) for _ in range(20))
        found = [
            largest_alpha(known.rates[rows], known.gain[rows], pgr=0.8, level=1 - confidence, seed=0) for rows in drawn
        ]
        return float(np.mean([(known.rates >= (alpha or 0.0)).mean() for alpha in found]))

    few, sure, unsure = mean_share(500, 0.95), mean_share(4_000, 0.95), mean_share(4_000, 0.6)
    assert few > sure > unsure


def test_a_perfect_router_needs_the_strong_model_where_it_is_better() -> None:
    rates = np.linspace(0.0, 1.0, 1_000)
    strong, weak = (rates >= 0.7).astype(np.float64), np.zeros(1_000)
    found = alpha_for_pgr(rates, strong, weak, pgr=0.9, confidence=0.95, seed=0)
    assert (found.n, found.decided) == (1_000, 300)
    assert found.gap == pytest.approx(0.3)
    assert found.alpha is not None
    # The cut that recovers 90 % is .73; with 300 decided labels one is sure somewhat below.
    assert 0.7 <= found.alpha < 0.73
    assert found.pgr is not None
    assert found.strong_share is not None
    assert 0.9 <= found.pgr.low <= found.pgr.value <= found.pgr.high <= 1.0
    assert found.strong_share.low < 0.3 < found.strong_share.high
    assert found.labels_needed is None


def test_grades_count_by_their_difference() -> None:
    rng = np.random.default_rng(0)
    rates = rng.uniform(size=3_000)
    weak = rng.uniform(0.2, 0.4, 3_000)
    found = alpha_for_pgr(rates, weak + 0.5 * rates, weak, pgr=0.75, confidence=0.95, seed=0)
    assert found.alpha is not None
    # E[gain] above alpha is (1 - alpha^2) of it all.
    assert 0.45 < found.alpha <= 0.5
    assert found.decided == 3_000


def test_alphas_of_fewer_decimals_are_tested_where_labels_are_many() -> None:
    rates = np.random.default_rng(0).uniform(size=30_000).round(6)
    alpha = largest_alpha(rates, rates, pgr=0.75, level=0.05, seed=0)
    assert alpha is not None
    assert alpha == round(alpha, 3)
    assert 0.48 < alpha <= 0.5


@pytest.mark.parametrize(("pgr", "needed"), [(0.5, 1_199), (0.8, 1_199), (0.95, 2_622)])
def test_labels_that_show_nothing_say_how_many_would(pgr: float, needed: int) -> None:
    # The strong model wins 11 of 40, the weak one 9: a gap of .05 that 40 labels do not show.
    strong = np.array([1.0] * 11 + [0.0] * 9 + [1.0] * 20)
    weak = np.array([0.0] * 11 + [1.0] * 9 + [1.0] * 20)
    found = alpha_for_pgr(np.linspace(0, 1, 40), strong, weak, pgr=pgr, confidence=0.95, seed=0)
    assert (found.alpha, found.strong_share, found.pgr) == (None, None, None)
    # 2 log(20) * E[gain^2] / gap^2 = 5.99 * .5 / .0025; at .95 no more than .5 / .95 of the capital is staked.
    assert found.labels_needed == needed
    rng = np.random.default_rng(0)

    def shown(n: int) -> int:
        rows = (rng.integers(40, size=n) for _ in range(20))
        gains = ((strong - weak)[drawn] for drawn in rows)
        alphas = [largest_alpha(np.full(n, 0.5), one, pgr=pgr, level=0.05, seed=k) for k, one in enumerate(gains)]
        return sum(alpha is not None for alpha in alphas)

    assert shown(needed // 6) <= 6
    assert shown(2 * needed) >= 15


def test_a_strong_model_that_is_not_better_has_no_gap_to_recover() -> None:
    found = alpha_for_pgr(np.linspace(0, 1, 50), np.zeros(50), np.ones(50), pgr=0.8, confidence=0.95, seed=0)
    assert (found.alpha, found.gap, found.labels_needed) == (None, -1.0, None)
    ties = alpha_for_pgr(np.linspace(0, 1, 50), np.ones(50), np.ones(50), pgr=0.8, confidence=0.95, seed=0)
    assert (ties.alpha, ties.decided, ties.labels_needed) == (None, 0, None)


@pytest.mark.parametrize("value", [0.0, 1.0, 80.0])
def test_targets_lie_between_none_and_all(value: float) -> None:
    rates = np.linspace(0, 1, 10)
    with pytest.raises(ConfigError, match="pgr must lie between 0 and 1"):
        alpha_for_pgr(rates, rates, rates, pgr=value, confidence=0.95, seed=0)
    with pytest.raises(ConfigError, match="confidence must lie between 0 and 1"):
        alpha_for_pgr(rates, rates, rates, pgr=0.5, confidence=value, seed=0)


def test_scores_that_are_no_shares_are_refused() -> None:
    rates = np.linspace(0, 1, 10)
    with pytest.raises(
        DataError, match=r"scores must lie in 0\.\.1, got 0\.0 to 10\.0; divide them by the largest grade"
    ):
        alpha_for_pgr(rates, rates * 10, rates, pgr=0.5, confidence=0.9, seed=0)
    with pytest.raises(DataError, match="got shapes"):
        alpha_for_pgr(rates, rates[:5], rates, pgr=0.5, confidence=0.9, seed=0)
