"""Calibration keeps the order of win rates, whatever the labels; alphas do what they say, whatever the table."""

from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routing.calibrating import Method, WinRateMap, fit
from routing.errors import ConfigError, DataError
from routing.guarantee import alpha_for_budget, alpha_for_pgr, alpha_for_share, next_share, share_interval
from routing.metrics import Floats
from schemas.billing import USD

rates = st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.500001, 0.75, 1.0]) | st.floats(0, 1).map(lambda rate: round(rate, 6))
scores = st.sampled_from([0.0, 0.25, 0.5, 1.0])
methods = st.sampled_from(["platt", "isotonic"])


@st.composite
def labels(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    n = draw(st.integers(2, 60))
    columns = [draw(st.lists(values, min_size=n, max_size=n)) for values in (rates, scores, scores)]
    return np.array(columns[0]), np.array(columns[1]), np.array(columns[2])


def fitted(found: tuple[Floats, Floats, Floats], method: Method) -> WinRateMap:
    """A map, where there is one: some labels are ranked backwards, and some are separated, which no sigmoid can say."""
    try:
        return fit(*found, method)
    except DataError:
        assume(False)
        raise


@given(found=labels(), method=methods, others=st.lists(rates, min_size=2, max_size=40))
def test_maps_rise_and_stay_in_range(found: tuple[Floats, Floats, Floats], method: Method, others: list[float]) -> None:
    mapped = fitted(found, method)
    ranked = np.unique(others)
    values = mapped.apply(ranked)
    assert ((values >= 0.0) & (values <= 1.0)).all()
    assert (np.diff(values) >= 0.0).all()
    if method == "isotonic":
        assert (np.diff(values) > 0.0).all()
        for end in (0.0, 1.0):  # certain, but for labels that lie there
            assert (mapped.apply(np.array([end])).item() == end) == (end not in found[0])


@given(win_rates=st.lists(rates, min_size=1, max_size=60), share=st.floats(0, 1))
def test_no_alpha_comes_nearer_to_a_share(win_rates: list[float], share: float) -> None:
    table = np.array(win_rates)
    found = alpha_for_share(table, share)
    assert found.n_strong == (table >= found.alpha).sum()
    alphas = [*np.unique(table), 1.0]
    nearest = min(abs((table >= alpha).sum() - share * len(table)) for alpha in alphas)
    assert abs(found.n_strong - share * len(table)) == nearest


@given(n=st.integers(1, 500), data=st.data())
def test_intervals_hold_their_share(n: int, data: st.DataObject) -> None:
    n_strong = data.draw(st.integers(0, n))
    source, table = share_interval(n_strong, n), next_share(n_strong, n, n)
    for found in (source, table):
        assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert table.low <= source.low + 1 / n
    assert table.high >= source.high - 1 / n


micros = st.integers(0, 10**6).map(lambda n: Decimal(n) / 10**6)


@given(data=st.data(), win_rates=st.lists(rates, min_size=1, max_size=30), spare=micros)
def test_a_budget_is_kept_by_the_smallest_alpha_that_keeps_it(
    data: st.DataObject, win_rates: list[float], spare: Decimal
) -> None:
    n = len(win_rates)
    usd = {name: data.draw(st.lists(micros, min_size=n, max_size=n)) for name in ("strong_usd", "weak_usd")}
    table = pl.DataFrame({"win_rate": win_rates}).with_columns(
        **{name: pl.Series(values, dtype=pl.Decimal(38, 6)).cast(USD) for name, values in usd.items()}
    )
    max_usd = sum(usd["weak_usd"], Decimal(0)) + spare

    def cost(alpha: float) -> Decimal:
        sides = zip(win_rates, usd["strong_usd"], usd["weak_usd"], strict=True)
        return sum((strong if rate >= alpha else weak for rate, strong, weak in sides), Decimal(0))

    if cost(1.0) > max_usd:  # the highest alpha there is; what is certain to win goes strong even then
        with pytest.raises(ConfigError, match="is kept by no alpha"):
            alpha_for_budget(table, max_usd)
        return
    found = alpha_for_budget(table, max_usd)
    assert found.expected_usd == cost(found.alpha) <= max_usd
    lower = sorted({rate for rate in win_rates if rate < found.alpha}, reverse=True)
    assert not lower or cost(lower[0]) > max_usd


@given(found=labels(), pgr=st.floats(0.05, 0.95), confidence=st.floats(0.5, 0.99))
def test_a_guaranteed_alpha_is_a_win_rate_with_its_share_and_its_estimate(
    found: tuple[Floats, Floats, Floats], pgr: float, confidence: float
) -> None:
    win_rates, strong, weak = found
    result = alpha_for_pgr(win_rates, strong, weak, pgr=pgr, confidence=confidence, seed=0)
    if result.alpha is None:
        assert (result.labels_needed is None) == (result.gap <= 0)
        return
    assert result.alpha in win_rates
    assert (result.pgr is None) == (result.gap <= 0)
    assert result.strong_share is not None
    assert result.strong_share.value == (win_rates >= result.alpha).mean()
