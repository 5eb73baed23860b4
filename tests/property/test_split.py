from decimal import Decimal
from itertools import pairwise

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from routing.split import FREE, at_rank, by_alpha, by_budget, by_strong_share, is_strong, route, with_gain_per_usd
from schemas.billing import USD
from tests.fakes import scored

few_rates = st.sampled_from([0.0, 0.25, 0.5, 0.5000000000000001, 0.75, 1.0])
rates = few_rates | st.floats(0, 1)
tie_keys = st.integers(0, 2**64 - 1)
micros = st.integers(0, 10**9).map(lambda n: Decimal(n) / 10**9)


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """SCORED with many equal win rates; tie keys are distinct, as 64-bit hashes of distinct ids are."""
    keys = draw(st.lists(tie_keys, max_size=40, unique=True))
    win_rates = draw(st.lists(rates, min_size=len(keys), max_size=len(keys)))
    return scored(win_rates, tie_keys=keys)


@st.composite
def priced_tables(draw: st.DrawFn) -> pl.DataFrame:
    table = draw(tables())
    strong, weak = (draw(st.lists(micros, min_size=len(table), max_size=len(table))) for _ in range(2))
    return table.with_columns(
        strong_usd=pl.Series(strong, dtype=pl.Decimal(38, 9)).cast(USD),
        weak_usd=pl.Series(weak, dtype=pl.Decimal(38, 9)).cast(USD),
    )


@given(table=tables(), data=st.data())
def test_two_numbers_reproduce_the_first_rows_of_the_order(table: pl.DataFrame, data: st.DataObject) -> None:
    n_strong = data.draw(st.integers(0, len(table)))
    split = at_rank(table, n_strong, rule="strong_share", wanted="")
    rows = sorted(table.iter_rows(named=True), key=lambda row: (-row["win_rate"], row["tie_key"]))
    first = {row["row"] for row in rows[:n_strong]}
    assert set(table.filter(is_strong(split))["row"]) == first
    tied = [row["row"] for row in rows if row["win_rate"] == split.alpha]
    assert (split.n_strong, split.n_tied, split.n_tied_strong) == (n_strong, len(tied), len(first.intersection(tied)))


@given(table=tables(), share=st.floats(0, 1), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_routing_part_by_part_is_routing_the_whole(table: pl.DataFrame, share: float, cuts: list[int]) -> None:
    split = by_strong_share(table, share)
    edges = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    parts = [table[start:stop] for start, stop in pairwise(edges)]
    routed = pl.concat([route(part, split, strong="s", weak="w") for part in parts])
    assert_frame_equal(routed, route(table, split, strong="s", weak="w"))


@given(table=tables(), alphas=st.tuples(rates, rates))
def test_raising_alpha_never_adds_strong_queries(table: pl.DataFrame, alphas: tuple[float, float]) -> None:
    lower, higher = (table.filter(is_strong(by_alpha(table, alpha)))["row"] for alpha in sorted(alphas))
    assert set(higher) <= set(lower)


@given(table=tables(), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_higher_share_keeps_every_strong_query(table: pl.DataFrame, shares: tuple[float, float]) -> None:
    fewer, more = (table.filter(is_strong(by_strong_share(table, share)))["row"] for share in sorted(shares))
    assert set(fewer) <= set(more)


@given(table=tables(), share=st.floats(0, 1))
def test_a_share_is_met_to_half_a_row(table: pl.DataFrame, share: float) -> None:
    n_strong = table.filter(is_strong(by_strong_share(table, share))).height
    assert abs(n_strong - share * len(table)) <= 0.5 + 1e-9


@given(table=priced_tables(), spare=micros)
def test_a_budget_is_kept_and_used_up(table: pl.DataFrame, spare: Decimal) -> None:
    budget = Decimal(table["weak_usd"].sum() or 0) + spare
    split = by_budget(table, budget)
    assert split.expected_usd is not None
    assert split.expected_usd <= budget
    for n_strong in range(split.n_strong + 1, len(table) + 1):
        longer = at_rank(table, n_strong, rule="max_usd", wanted="")
        assert longer.expected_usd is not None
        assert longer.expected_usd > budget


# ---- in the order of the gain per dollar ----------------------------------------------------------------------------


@given(table=priced_tables())
def test_gain_per_dollar_is_never_null_and_positive_where_the_win_rate_is_above_a_half(table: pl.DataFrame) -> None:
    keys = with_gain_per_usd(table)["gain_per_usd"]
    assert keys.is_between(0.0, FREE).all()
    assert ((keys > 0) == (2.0 * table["win_rate"] - 1.0 > 0)).all()


@given(table=priced_tables(), spare=micros)
def test_a_budget_by_gain_is_kept_and_used_up(table: pl.DataFrame, spare: Decimal) -> None:
    table = with_gain_per_usd(table)
    budget = Decimal(table["weak_usd"].sum() or 0) + spare
    split = by_budget(table, budget, order="gain_per_usd")
    assert split.expected_usd is not None
    assert split.expected_usd <= budget
    chosen = table.filter(is_strong(split))
    assert chosen.height == split.n_strong
    assert (chosen["gain_per_usd"] > 0).all()
    gaining = int((table["gain_per_usd"] > 0).sum())
    if split.n_strong < gaining:
        longer = at_rank(table, split.n_strong + 1, rule="max_usd", wanted="", order="gain_per_usd")
        assert longer.expected_usd is not None
        assert longer.expected_usd > budget


@given(table=priced_tables(), spare=micros, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_two_numbers_reproduce_the_order_by_gain_part_by_part(
    table: pl.DataFrame, spare: Decimal, cuts: list[int]
) -> None:
    whole = with_gain_per_usd(table)
    split = by_budget(whole, Decimal(table["weak_usd"].sum() or 0) + spare, order="gain_per_usd")
    rows = sorted(whole.iter_rows(named=True), key=lambda row: (-row["gain_per_usd"], row["tie_key"]))
    first = {row["row"] for row in rows[: split.n_strong]}
    edges = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    parts = [with_gain_per_usd(table[start:stop]) for start, stop in pairwise(edges)]
    routed = pl.concat([route(part, split, strong="s", weak="w") for part in parts])
    assert set(routed.filter(route="strong")["row"]) == first
    # A query that went strong has at least its own alpha; its threshold is a float, so to its last digits.
    strong = routed.filter(route="strong")
    assert (strong["win_rate"] >= strong["alpha"] * (1 - 1e-12)).all()


@given(table=priced_tables(), budgets=st.tuples(micros, micros))
def test_more_money_keeps_every_strong_query(table: pl.DataFrame, budgets: tuple[Decimal, Decimal]) -> None:
    table = with_gain_per_usd(table)
    all_weak = Decimal(table["weak_usd"].sum() or 0)
    fewer, more = (
        set(table.filter(is_strong(by_budget(table, all_weak + spare, order="gain_per_usd")))["row"])
        for spare in sorted(budgets)
    )
    assert fewer <= more
