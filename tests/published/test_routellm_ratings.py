"""Ratings, tiers and similarity-weighted win rates against RouteLLM 0.2.0's own functions, in their environment."""

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from routing.bradley_terry import Anchor, ratings, tiers
from routing.training.similarity_weighted import similarity_weighted

PEER = Path(os.environ.get("NIGHTROUTE_PEERS", Path(__file__).parents[2] / ".venv-peers")) / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PEER.exists(), reason=f"needs RouteLLM 0.2.0 at {PEER.relative_to(PEER.parents[2])}"
)

N_TIERS = 6
ANCHOR = "llama-2-70b-chat"
MODELS = [*(f"model-{i:02}" for i in range(23)), ANCHOR]

# Their fit stops at a mean gradient of 1e-4; `tight` lets the same call run to the optimum.
SCRIPT = """
import functools, json, sys
import numpy as np, pandas as pd
from routellm.routers.similarity_weighted import utils

given = json.load(sys.stdin)
loose = utils.LogisticRegression
tight = functools.partial(loose, tol=1e-12, max_iter=10_000)
battles = pd.DataFrame(given["battles"])
found = {}
for name, fit in (("loose", loose), ("tight", tight)):
    utils.LogisticRegression = fit
    found[name] = {key: float(value) for key, value in utils.compute_elo_mle_with_tie(battles).items()}
    places = battles.assign(**{side: battles[side].map(given["tiers"]) for side in ("model_a", "model_b")})
    points = [utils.compute_elo_mle_with_tie(places, sample_weight=np.array(row)) for row in given["weights"]]
    found[name + "_win_rates"] = [1 - 1 / (1 + 10 ** ((p[given["strong"]] - p[given["weak"]]) / 400)) for p in points]
found["tiers"] = [utils.compute_tiers(pd.Series(table), n) for table, n in given["tables"]]
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def battles() -> pl.DataFrame:
    rng = np.random.default_rng(11)
    n = 6_000
    a = rng.integers(0, len(MODELS), n)
    b = (a + rng.integers(1, len(MODELS), n)) % len(MODELS)
    strength = np.sort(rng.normal(0, 1.0, len(MODELS)))[::-1]
    won = rng.uniform(size=n) < 1 / (1 + np.exp(strength[b] - strength[a]))
    winner = np.where(rng.uniform(size=n) < 0.25, "tie", np.where(won, "model_a", "model_b"))
    names = np.array(MODELS)
    return pl.DataFrame({"model_a": names[a], "model_b": names[b], "winner": winner, "weight": 1.0})


@pytest.fixture(scope="module")
def embeddings(battles: pl.DataFrame) -> NDArray[np.float64]:
    return np.random.default_rng(12).normal(size=(battles.height, 6))


QUERIES = np.random.default_rng(13).normal(size=(12, 6))


@pytest.fixture(scope="module")
def rating_tables() -> list[tuple[dict[str, float], int]]:
    """Random ratings, the highest first as RouteLLM lists them, and a number of tiers for each."""
    rng = np.random.default_rng(14)
    tables = [np.sort(rng.normal(1000, 100, n))[::-1] for n in (2, 5, 12, 20, 40)]
    return [
        ({f"m{i}": float(x) for i, x in enumerate(table)}, k)
        for table in tables
        for k in (1, 2, 5, 10)
        if k <= len(table)
    ]


@pytest.fixture(scope="module")
def routellm(
    battles: pl.DataFrame, embeddings: NDArray[np.float64], rating_tables: list[tuple[dict[str, float], int]]
) -> dict[str, Any]:
    cosines = QUERIES @ embeddings.T / np.linalg.norm(embeddings, axis=1) / np.linalg.norm(QUERIES, axis=1)[:, None]
    place = dict(tiers(ratings(battles), N_TIERS).iter_rows())
    given = {
        "battles": battles.select("model_a", "model_b", "winner").to_dict(as_series=False),
        "weights": (10 * 10 ** (cosines / cosines.max(axis=1, keepdims=True))).tolist(),
        "tiers": place,
        "strong": place[MODELS[0]],
        "weak": place[MODELS[12]],
        "tables": rating_tables,
    }
    # The module makes an OpenAI client when it is imported; nothing is sent.
    environment = {**os.environ, "OPENAI_API_KEY": "unused", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    report = subprocess.run(
        [PEER, "-c", SCRIPT],
        input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert report.returncode == 0, report.stderr
    found: dict[str, Any] = json.loads(report.stdout)
    return found


def test_ratings_are_routellms(battles: pl.DataFrame, routellm: dict[str, Any]) -> None:
    found = dict(ratings(battles, anchor=Anchor(1082.0, ANCHOR)).iter_rows())
    assert found == pytest.approx(routellm["tight"], abs=0.01)
    assert found == pytest.approx(routellm["loose"], abs=2.0)


def test_tiers_are_routellms(rating_tables: list[tuple[dict[str, float], int]], routellm: dict[str, Any]) -> None:
    for (table, n_tiers), expected in zip(rating_tables, routellm["tiers"], strict=True):
        assert all(high >= low for high, low in pairwise(table.values()))
        frame = pl.DataFrame({"model": list(table), "rating": list(table.values())})
        assert dict(tiers(frame, n_tiers).iter_rows()) == expected


def test_win_rates_are_routellms(
    battles: pl.DataFrame, embeddings: NDArray[np.float64], routellm: dict[str, Any]
) -> None:
    table = tiers(ratings(battles), N_TIERS)
    router = similarity_weighted(battles, embeddings, table, strong=MODELS[0], weak=MODELS[12], same_tier="as_routellm")
    found = router.win_rates(QUERIES)
    assert found == pytest.approx(routellm["tight_win_rates"], abs=1e-5)
    assert found == pytest.approx(routellm["loose_win_rates"], abs=1e-3)
