"""What every router promises, tried on each one that nightroute ships and on one whose win rates add up by eye."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from routing.artifact import BUILTIN, load, locate
from routing.routers import OnnxRouter
from tests.fakes import save_adding_router

SHIPPED = sorted(f"builtin:{path.name}" for path in BUILTIN.iterdir() if path.is_dir())
WORDS = ["why", "does", "the", "17th", "derivative", "of", "a", "Fourier", "series", "converge,", "if", "at all?", "7"]
LONG = "All work and no play makes Jack a dull boy. " * 4_600
"""About 200,000 characters and 50,000 tokens."""
SAME = 1.001e-6
"""One unit in the sixth decimal, to which win rates are rounded."""
ODD = [
    "",
    " ",
    "\n\t",
    "😀👩‍👩‍👧‍👦🏳️‍🌈",
    "ﷺ" * 50,
    "\x00\x07",
    "مرحبا بالعالم",
    "日本語のテキスト",
    "e\u0301" * 30,
    "a" * 5_000,
]


def prompts(n: int, seed: int = 1) -> list[str]:
    """Texts of very different lengths, from empty to several hundred words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, int(length))) for length in rng.geometric(0.02, n) - 1]


@pytest.fixture(scope="module", params=[*SHIPPED, "adding"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "adding":
        return save_adding_router(tmp_path_factory.mktemp("router") / "adding")
    return locate(request.param, relative_to=Path())


@pytest.fixture(scope="module")
def router(folder: Path) -> OnnxRouter:
    return OnnxRouter(load(folder), threads=1)


def test_a_router_is_shipped() -> None:
    assert "builtin:static-mf" in SHIPPED


def test_one_probability_and_one_length_for_each_text(router: OnnxRouter) -> None:
    texts = prompts(300)
    rates = router.win_rates(texts)
    assert rates.win_rate.shape == rates.tokens.shape == (300,)
    assert rates.win_rate.dtype == np.float64
    assert rates.tokens.dtype == np.int64
    assert np.isfinite(rates.win_rate).all()
    assert ((rates.win_rate >= 0) & (rates.win_rate <= 1)).all()
    assert_array_equal(router.count_tokens(texts), rates.tokens)


def test_no_texts_no_win_rates(router: OnnxRouter) -> None:
    rates = router.win_rates([])
    assert rates.win_rate.shape == rates.tokens.shape == router.count_tokens([]).shape == (0,)
    assert rates.win_rate.dtype == np.float64
    assert rates.tokens.dtype == np.int64


def test_the_same_texts_get_the_same_bits(router: OnnxRouter, folder: Path) -> None:
    texts = prompts(100)
    first = router.win_rates(texts).win_rate
    assert_array_equal(router.win_rates(texts).win_rate, first)
    assert_array_equal(OnnxRouter(load(folder), threads=1).win_rates(texts).win_rate, first)


@pytest.mark.parametrize("token_budget", [1, 700, 1_000_000])
def test_a_win_rate_does_not_depend_on_the_batch(router: OnnxRouter, folder: Path, token_budget: int) -> None:
    texts = [*prompts(200), *ODD]
    other = OnnxRouter(load(folder), threads=1, token_budget=token_budget)
    assert_allclose(other.win_rates(texts).win_rate, router.win_rates(texts).win_rate, rtol=0, atol=SAME)


def test_a_win_rate_does_not_depend_on_the_order(router: OnnxRouter) -> None:
    texts = [*prompts(200), *ODD]
    order = np.random.default_rng(2).permutation(len(texts))
    shuffled = router.win_rates([texts[i] for i in order])
    rates = router.win_rates(texts)
    assert_allclose(shuffled.win_rate, rates.win_rate[order], rtol=0, atol=SAME)
    assert_array_equal(shuffled.tokens, rates.tokens[order])


def test_odd_texts_have_win_rates_too(router: OnnxRouter) -> None:
    rates = router.win_rates(ODD)
    assert np.isfinite(rates.win_rate).all()
    assert rates.tokens[0] == 0


def test_a_very_long_text_is_counted_whole_and_read_at_both_ends(router: OnnxRouter, folder: Path) -> None:
    cut = load(folder).card.truncation
    rates = router.win_rates([LONG, LONG + LONG])
    assert rates.tokens[0] >= 45_000
    assert rates.tokens[1] == 2 * rates.tokens[0]
    # Both texts begin and end alike for more than the router reads, so only their length may tell them apart.
    assert rates.tokens[0] > cut.head + cut.tail
    assert_allclose(rates.win_rate[0], rates.win_rate[1], rtol=0, atol=SAME)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_router_tells_queries_apart_and_keeps_its_calibration(name: str) -> None:
    artifact = load(locate(name, relative_to=Path()))
    rates = OnnxRouter(artifact, threads=1).win_rates([f"{text} {zlib.crc32(text.encode())}" for text in prompts(300)])
    assert np.unique(rates.win_rate).size > 250
    quantiles = artifact.card.score_quantiles
    assert len(quantiles) == 101
    assert quantiles == sorted(quantiles)
    assert 0 <= quantiles[0] < quantiles[-1] <= 1
