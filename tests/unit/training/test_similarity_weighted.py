"""The router `sw` against a logistic regression per query, and its graph against both."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from routing.bradley_terry import ratings, tiers
from routing.errors import DataError
from routing.training.similarity_weighted import SameTier, SimilarityWeighted, similarity_weighted

Floats = NDArray[np.float64]
DIM, N_TIERS = 8, 4
MODELS = [f"m{i:02}" for i in range(12)]
STRONG, WEAK = "m00", "m07"
CHOICES: tuple[SameTier, ...] = ("ignored", "as_routellm")


@pytest.fixture(scope="module")
def battles() -> pl.DataFrame:
    rng = np.random.default_rng(5)
    n = 3_000
    a = rng.integers(0, 12, n)
    b = (a + rng.integers(1, 12, n)) % 12
    chance = 1 / (1 + np.exp(0.35 * (a - b)))
    draw = rng.uniform(size=n)
    winner = np.where(draw < 0.2, "tie", np.where(rng.uniform(size=n) < chance, "model_a", "model_b"))
    weight = rng.choice([0.0, 0.5, 1.0, 3.0], n)
    names = np.array(MODELS)
    return pl.DataFrame({"model_a": names[a], "model_b": names[b], "winner": winner, "weight": weight})


@pytest.fixture(scope="module")
def embeddings(battles: pl.DataFrame) -> Floats:
    """Prompts in two clusters; battles the weaker model won tend to lie in the second."""
    rng = np.random.default_rng(6)
    surprise = (battles["winner"] == "model_a").to_numpy() == (battles["model_a"] > battles["model_b"]).to_numpy()
    rows = rng.normal(size=(battles.height, DIM))
    rows[:, 0] += np.where(surprise, -1.5, 1.5)
    return rows


@pytest.fixture(scope="module")
def tier_table(battles: pl.DataFrame) -> pl.DataFrame:
    return tiers(ratings(battles), N_TIERS)


@pytest.fixture(scope="module")
def queries() -> Floats:
    rows = np.random.default_rng(7).normal(size=(40, DIM)) * 3
    rows[0] = 0.0
    return rows


def regression(x: Floats, y: Floats, weight: Floats) -> Floats:
    """Coefficients of a weighted logistic regression on the rows themselves, least squares by least squares."""
    coefficients = np.zeros(x.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-x @ coefficients))
        spread = np.sqrt(weight * chance * (1 - chance))
        target = np.sqrt(weight / (chance * (1 - chance))) * (y - chance)
        coefficients = coefficients + np.linalg.lstsq(spread[:, None] * x, target, rcond=1e-10)[0]
    return coefficients


def by_regression(
    battles: pl.DataFrame, embeddings: Floats, tier_table: pl.DataFrame, queries: Floats, same_tier: SameTier
) -> Floats:
    """The win rates as RouteLLM's code finds them: one regression a query, one row a half battle."""
    place = dict(tier_table.iter_rows())
    a, b = (np.array([place[name] for name in battles[side]]) for side in ("model_a", "model_b"))
    kept = battles["weight"].to_numpy() > 0
    if same_tier == "ignored":
        kept &= a != b
    a, b, weight, rows = a[kept], b[kept], battles["weight"].to_numpy()[kept], embeddings[kept]
    x = np.zeros((len(a), N_TIERS))
    x[np.arange(len(a)), a] = 1.0
    x[np.arange(len(a)), b] = -1.0
    winner = battles["winner"].to_numpy()[kept]
    first = (winner != "model_b").astype(float)
    second = (winner == "model_a").astype(float)
    found = []
    for query in queries:
        cosines = rows @ query / (np.linalg.norm(rows, axis=1) * max(float(np.linalg.norm(query)), 1e-6))
        similar = weight * 10 ** (1 + cosines / max(float(cosines.max()), 1e-6))
        c = regression(np.concatenate([x, x]), np.concatenate([first, second]), np.concatenate([similar, similar]))
        found.append(1 / (1 + np.exp(c[place[WEAK]] - c[place[STRONG]])))
    return np.array(found)


@pytest.mark.parametrize("same_tier", CHOICES)
def test_win_rates_are_those_of_one_regression_a_query(
    battles: pl.DataFrame, embeddings: Floats, tier_table: pl.DataFrame, queries: Floats, same_tier: SameTier
) -> None:
    router = similarity_weighted(battles, embeddings, tier_table, strong=STRONG, weak=WEAK, same_tier=same_tier)
    expected = by_regression(battles, embeddings, tier_table, queries, same_tier)
    found = router.win_rates(queries)
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.ptp(found) > 0.1, "the queries must differ for the comparison to mean something"


def test_what_a_battle_inside_a_tier_does_is_a_choice_that_shows(
    battles: pl.DataFrame, embeddings: Floats, tier_table: pl.DataFrame, queries: Floats
) -> None:
    ignored, routellm = (
        similarity_weighted(battles, embeddings, tier_table, strong=STRONG, weak=WEAK, same_tier=choice)
        for choice in CHOICES
    )
    assert np.abs(ignored.win_rates(queries) - routellm.win_rates(queries)).max() > 1e-3


def test_company_length_and_precision_do_not_change_a_win_rate(
    battles: pl.DataFrame, embeddings: Floats, tier_table: pl.DataFrame, queries: Floats
) -> None:
    def make(scale: float, dtype: Any) -> SimilarityWeighted:
        return similarity_weighted(battles, scale * embeddings, tier_table, strong=STRONG, weak=WEAK, dtype=dtype)

    router = make(1.0, np.float32)
    together = router.win_rates(queries)
    assert router.win_rates(queries[3:4]) == pytest.approx(together[3:4], abs=1e-6)
    assert router.win_rates(10 * queries) == pytest.approx(together, abs=1e-6)
    assert make(7.0, np.float32).win_rates(queries) == pytest.approx(together, abs=1e-6)
    half = make(1.0, np.float16)
    assert half.prototypes.dtype == np.float16
    assert half.win_rates(queries) == pytest.approx(together, abs=1e-3)
    assert router.win_rates(queries[:0]).shape == (0,)


def test_the_zero_vector_gets_the_win_rate_of_the_unweighted_battles(
    battles: pl.DataFrame, embeddings: Floats, tier_table: pl.DataFrame
) -> None:
    named = battles.with_columns(
        pl.col("model_a", "model_b").replace_strict(tier_table["model"], tier_table["tier"].cast(pl.String))
    )
    points = dict(ratings(named).iter_rows())
    router = similarity_weighted(battles, embeddings, tier_table, strong=STRONG, weak=WEAK)
    expected = 1 / (1 + 10 ** ((points[str(router.weak)] - points[str(router.strong)]) / 400))
    assert router.win_rates(np.zeros((1, DIM))) == pytest.approx(expected, abs=1e-6)


AGAINST_ALL = np.array([[-0.5, -1.0]])
PROTOTYPES = np.array([[1.0, -0.1], [1.0, 1.0]])


def two_battles(won: float = 1.0, lost: float = 1.0) -> SimilarityWeighted:
    """One battle won near the first prototype, one lost near the second, and their weights."""
    battles = pl.DataFrame({"model_a": "x", "model_b": "y", "winner": ["model_a", "model_b"], "weight": [won, lost]})
    table = pl.DataFrame({"model": ["x", "y"], "tier": [0, 1]})
    return similarity_weighted(battles, PROTOTYPES, table, strong="x", weak="y")


def test_a_query_against_every_prototype_keeps_the_nearest_heaviest() -> None:
    """No cosine is positive: dividing by a negative maximum would make the farthest battle weigh most."""
    cosines = PROTOTYPES @ AGAINST_ALL[0] / np.linalg.norm(PROTOTYPES, axis=1) / np.linalg.norm(AGAINST_ALL)
    near, far = 10 ** (cosines / 0.2)
    assert near > 900 * far
    assert two_battles().win_rates(AGAINST_ALL) == pytest.approx(near / (near + far), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weak": "m01"}, r"share tier 0"),
        ({"strong": "new"}, r"models \['new'\] have no tier"),
        ({"embeddings": np.ones((2, DIM))}, r"shape \(3000, dim\), one a battle, got \(2, 8\)"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    battles: pl.DataFrame, embeddings: Floats, tier_table: pl.DataFrame, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"embeddings": embeddings, "strong": STRONG, "weak": WEAK} | change
    with pytest.raises(DataError, match=message):
        similarity_weighted(battles, arguments.pop("embeddings"), tier_table, **arguments)


def test_tiers_without_wins_both_ways_are_refused(battles: pl.DataFrame, tier_table: pl.DataFrame) -> None:
    rows = battles.head(1).with_columns(pl.lit("m00").alias("model_a"), pl.lit("m11").alias("model_b"), weight=1.0)
    with pytest.raises(DataError, match=r"never compared"):
        similarity_weighted(rows, np.ones((1, DIM)), tier_table, strong=STRONG, weak=WEAK)
    with pytest.raises(DataError, match=r"no battle between two tiers"):
        similarity_weighted(rows.with_columns(weight=0.0), np.ones((1, DIM)), tier_table, strong=STRONG, weak=WEAK)


@pytest.mark.parametrize("same_tier", CHOICES)
def test_a_tier_that_never_loses_is_refused(tier_table: pl.DataFrame, same_tier: SameTier) -> None:
    members = tier_table.group_by("tier").agg(pl.col("model").first()).sort("tier")["model"]
    rows = pl.DataFrame({"model_a": members[:-1], "model_b": members[1:], "winner": "model_a", "weight": 1.0})
    with pytest.raises(DataError, match=r"\['tier 0'\] never lose"):
        similarity_weighted(rows, np.ones((3, DIM)), tier_table, strong=STRONG, weak=WEAK, same_tier=same_tier)


def test_embeddings_of_another_encoder_are_refused(
    battles: pl.DataFrame, embeddings: Floats, tier_table: pl.DataFrame
) -> None:
    router = similarity_weighted(battles, embeddings, tier_table, strong=STRONG, weak=WEAK)
    with pytest.raises(DataError, match=r"shape \(n, 8\), got \(1, 9\)"):
        router.win_rates(np.ones((1, 9)))


def run_graph(router: SimilarityWeighted, embeddings: Floats) -> NDArray[np.float32]:
    pytest.importorskip("onnx", reason="needs the extra `train`")
    import onnxruntime as ort

    from routing.training.similarity_graph import similarity_graph

    model = similarity_graph(router)
    assert {node.domain for node in model.graph.node} == {""}, "standard operators only"
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(["win_rate"], {"embedding": embeddings.astype(np.float32)})[0]
    assert found.dtype == np.float32
    assert found.shape == (len(embeddings),)
    return np.asarray(found)


@pytest.mark.train
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("same_tier", CHOICES)
def test_the_graph_answers_as_numpy_does(
    battles: pl.DataFrame,
    embeddings: Floats,
    tier_table: pl.DataFrame,
    queries: Floats,
    same_tier: SameTier,
    dtype: Any,
) -> None:
    router = similarity_weighted(
        battles, embeddings, tier_table, strong=STRONG, weak=WEAK, same_tier=same_tier, dtype=dtype
    )
    # Beside the queries of the other tests the prototypes themselves, where weights are most uneven.
    rows = np.concatenate([queries, embeddings[:500], np.random.default_rng(8).normal(size=(500, DIM))])
    found = run_graph(router, rows)
    assert found == pytest.approx(router.win_rates(rows), abs=1e-5)
    assert run_graph(router, rows[5:6]) == pytest.approx(found[5:6], abs=1e-6)


@pytest.mark.train
def test_the_graph_follows_far_from_where_newton_begins() -> None:
    """Strengths differ by 0 without similarity, and by 6.8 and -8.9 for these two queries; then by 6.9, and -2.0."""
    rows = np.concatenate([AGAINST_ALL, [[-1.0, 1.0]]])
    for router in (two_battles(), two_battles(won=1_000.0)):
        assert run_graph(router, rows) == pytest.approx(router.win_rates(rows), abs=1e-5)
