"""Embedder and head as one graph; the router `sw` from battles against one regression a query."""

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnx", reason="needs the extra `train`")

from routing.bradley_terry import ratings, tiers  # noqa: E402
from routing.errors import ConfigError, DataError  # noqa: E402
from routing.training.export import Graph  # noqa: E402
from routing.training.fuse import EmbeddingRouter, LinearHead, fuse  # noqa: E402
from routing.training.loop import LoopConfig  # noqa: E402
from routing.training.mf import MfConfig  # noqa: E402
from routing.training.mf_router import fit_mf_router  # noqa: E402
from routing.training.router import TrainedRouter  # noqa: E402
from routing.training.similarity_weighted import SimilarityWeighted, similarity_weighted  # noqa: E402
from routing.training.sw import SwConfig, SwHead, fit_sw, merged, rated_battles, thinned  # noqa: E402
from tests.unit.training import embedding_world as world  # noqa: E402

Floats = NDArray[np.float64]
TEXTS = ["", "prime prime w1 w2", "hello w150 w180", "what is the sum of 1 + 2 ?", "w7 " * 60]
N_TIERS = 3


def test_one_graph_answers_as_both_parts_do(encoder_folder: Path) -> None:
    embedder = world.embedder(encoder_folder, counts=True)
    weight = np.random.default_rng(0).normal(size=embedder.dim).astype(np.float32)
    router = EmbeddingRouter("linear", embedder, LinearHead(weight, 0.3))
    rows = router.text.tokens(TEXTS)
    expected = 1 / (1 + np.exp(-(embedder.embed(rows) @ weight.astype(float) + 0.3)))
    assert router.win_rates(rows) == pytest.approx(expected, abs=1e-9)
    trained: TrainedRouter = router
    model = trained.graph()
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in model.graph.output] == ["win_rate"]
    assert {node.domain for node in model.graph.node} == {""}, "standard operators only"
    graph = Graph(model, threads=1)
    assert graph.win_rates(rows) == pytest.approx(expected, abs=1e-5)
    assert graph.win_rates(rows[3:4]) == pytest.approx(expected[3:4], abs=1e-5)
    again = fuse(embedder.graph(), router.head.graph())
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_a_linear_head_stays_finite_at_any_logit() -> None:
    head = LinearHead(np.array([1.0], np.float32), 0.0)
    assert head.win_rates(np.array([[1e4], [-1e4]], np.float32)).tolist() == [1.0, 0.0]


def test_the_bilinear_router_is_exported_as_one_vector(encoder_folder: Path) -> None:
    loop = LoopConfig(learning_rate=5e-2, epochs=2, batch_rows=64, batch_tokens=4_096, eval_every=100)
    embed = world.embeddings(encoder_folder, counts=False)
    data = world.dataset()
    router = fit_mf_router(data, embed, MfConfig(rank=8, bias=True, loop=loop), world.Reports().run())
    assert router.kind == "mf"
    assert router.notes == {"models": 6.0}
    rows = router.text.tokens([*TEXTS, *data.held_out_labels["prompt"]])
    found = router.win_rates(rows)
    assert np.ptp(found) > 0.05
    assert Graph(router.graph(), threads=1).win_rates(rows) == pytest.approx(found, abs=1e-5)


def regression(x: Floats, y: Floats, weight: Floats) -> Floats:
    """Coefficients of a weighted logistic regression on the rows themselves, least squares by least squares."""
    found = np.zeros(x.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-x @ found))
        spread = np.sqrt(weight * chance * (1 - chance))
        target = np.sqrt(weight / (chance * (1 - chance))) * (y - chance)
        found = found + np.linalg.lstsq(spread[:, None] * x, target, rcond=1e-10)[0]
    return found


def by_regression(battles: pl.DataFrame, rows: Floats, queries: Floats) -> Floats:
    """The win rates as RouteLLM's code finds them: one regression a query over all battles."""
    place = dict(tiers(ratings(battles), N_TIERS).iter_rows())
    a, b = (np.array([place[name] for name in battles[side].cast(pl.String)]) for side in ("model_a", "model_b"))
    kept = a != b
    a, b, rows, own = a[kept], b[kept], rows[kept], battles["weight"].to_numpy()[kept]
    winner = battles["winner"].cast(pl.String).to_numpy()[kept]
    y = np.where(winner == "tie", 0.5, winner == "model_a").astype(float)
    x = np.eye(N_TIERS)[a] - np.eye(N_TIERS)[b]
    found = []
    for query in queries:
        cosines = rows @ query
        c = regression(x, y, own * 10 ** (1 + cosines / cosines.max()))
        found.append(1 / (1 + np.exp(c[place[world.WEAK]] - c[place[world.STRONG]])))
    return np.array(found)


def test_the_sw_graph_is_one_regression_a_query(encoder_folder: Path) -> None:
    data, embed = world.dataset(), world.embeddings(encoder_folder, counts=False)
    router = fit_sw(data, embed, SwConfig(tiers=N_TIERS, dtype="float32"), world.Reports().run())
    assert router.kind == "sw"
    prompts = data.held_out_labels["prompt"].unique(maintain_order=True).head(30)
    expected = by_regression(data.battles, embed(data.battles["prompt"]).astype(float), embed(prompts).astype(float))
    rows = router.text.tokens(prompts.to_list())
    assert Graph(router.graph(), threads=1).win_rates(rows) == pytest.approx(expected, abs=1e-4)
    assert router.win_rates(rows) == pytest.approx(expected, abs=1e-4)
    assert np.ptp(expected) > 0.05, "the queries must differ for the comparison to mean something"
    assert router.notes["storage_max_error"] == 0.0
    assert router.notes["models_left_out"] == 0
    assert router.notes["prototypes"] < 0.5 * router.notes["battles"], "prompts with many battles are stored once"


def test_storing_in_less_room_states_what_it_costs(encoder_folder: Path) -> None:
    data, embed = world.dataset(), world.embeddings(encoder_folder, counts=False)
    run = world.Reports().run()
    choices: list[tuple[Literal["float32", "float16"], int | None]]
    choices = [("float32", None), ("float16", None), ("float32", 40), ("float32", 10_000)]
    routers = {
        (dtype, n): fit_sw(data, embed, SwConfig(tiers=N_TIERS, dtype=dtype, max_prototypes=n), run)
        for dtype, n in choices
    }
    held_out = data.held_out_labels["prompt"].unique(maintain_order=True)
    exact = routers["float32", None].head.win_rates(embed(held_out))
    for router in routers.values():
        error = np.abs(router.head.win_rates(embed(held_out)) - exact)
        assert router.notes["storage_max_error"] == pytest.approx(error.max(), abs=1e-9)
        assert router.notes["storage_mean_error"] == pytest.approx(error.mean(), abs=1e-9)
        rows = router.text.tokens(TEXTS)
        assert Graph(router.graph(), threads=1).win_rates(rows) == pytest.approx(router.win_rates(rows), abs=1e-5)
    assert 0 < routers["float16", None].notes["storage_max_error"] < 1e-3
    assert routers["float32", 40].notes["prototypes"] == 40
    assert 0 < routers["float32", 40].notes["storage_mean_error"] < 0.03
    assert routers["float32", 10_000].notes["storage_max_error"] == 0.0
    again = fit_sw(data, embed, SwConfig(tiers=N_TIERS, dtype="float32", max_prototypes=40), run)
    assert again.graph().SerializeToString(deterministic=True) == routers["float32", 40].graph().SerializeToString(
        deterministic=True
    )


def test_counts_are_no_direction(encoder_folder: Path) -> None:
    data, run = world.dataset(), world.Reports().run()
    rows = data.held_out_labels["prompt"].unique().sort().to_list()
    found = []
    for counts in (False, True):
        router = fit_sw(data, world.embeddings(encoder_folder, counts=counts), SwConfig(tiers=N_TIERS), run)
        assert router.embedder.counts == 0
        found.append(router.win_rates(router.text.tokens(rows)))
    assert found[0].tolist() == found[1].tolist()


def prototypes(n: int, *, distinct: int, seed: int) -> SimilarityWeighted:
    """A router of n battles on a few distinct embeddings, with three weights."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 3, n)
    b = (a + rng.integers(1, 3, n)) % 3
    names = np.array(["x", "y", "z"])
    battles = pl.DataFrame(
        {
            "model_a": names[a],
            "model_b": names[b],
            "winner": rng.choice(["model_a", "model_b", "tie"], n),
            "weight": rng.choice([0.5, 1.0, 3.0], n),
        }
    )
    rows = rng.normal(size=(distinct, 5))[rng.integers(0, distinct, n)]
    table = pl.DataFrame({"model": ["x", "y", "z"], "tier": [0, 1, 2]})
    return similarity_weighted(battles, rows, table, strong="x", weak="z")


def test_merging_keeps_every_win_rate_and_every_half_win() -> None:
    whole = prototypes(9_000, distinct=4, seed=3)
    small = merged(whole)
    assert len(small.prototypes) == 4 * 3, "four embeddings, three weights each"
    assert small.half_wins.dtype == np.uint16, "more than 255 half wins share a prototype"
    assert small.half_wins.sum(axis=0).tolist() == whole.half_wins.sum(axis=0, dtype=int).tolist()
    queries = np.random.default_rng(4).normal(size=(50, 5))
    assert small.win_rates(queries) == pytest.approx(whole.win_rates(queries), abs=1e-6)
    assert merged(small).half_wins.tobytes() == small.half_wins.tobytes()


def test_the_graph_reads_wide_half_wins_and_counted_in_weights() -> None:
    import onnxruntime as ort

    whole = prototypes(4_000, distinct=40, seed=3)
    queries = np.random.default_rng(4).normal(size=(50, 5)).astype(np.float32)
    for router in (merged(whole), thinned(whole, 9, seed=0)):
        session = ort.InferenceSession(SwHead(router).graph().SerializeToString(), providers=["CPUExecutionProvider"])
        found = session.run(["win_rate"], {"embedding": queries})[0]
        assert found == pytest.approx(router.win_rates(queries), abs=1e-5)


def test_thinning_loses_no_battle_and_keeps_its_seed() -> None:
    whole = prototypes(2_000, distinct=100, seed=5)
    small = thinned(whole, 20, seed=1)
    assert small.prototypes.shape == (20, 5)
    assert small.half_wins.dtype == np.float32
    counted = np.exp(whole.log_weight.astype(float)) @ whole.half_wins
    assert small.half_wins.sum(axis=0, dtype=float) == pytest.approx(counted, rel=1e-5)
    zero = np.zeros((1, 5))
    assert small.win_rates(zero) == pytest.approx(whole.win_rates(zero), abs=1e-6)
    assert thinned(whole, 20, seed=1).prototypes.tobytes() == small.prototypes.tobytes()
    assert thinned(whole, 20, seed=2).prototypes.tobytes() != small.prototypes.tobytes()
    # Cosines to a battle's new prototype are near those to its own, so wins move with their neighbourhood.
    near = np.abs(small.win_rates(whole.prototypes) - whole.win_rates(whole.prototypes)).mean()
    mixed = SimilarityWeighted(
        small.prototypes, small.half_wins[::-1].copy(), small.log_weight, small.start, small.strong, small.weak
    )
    assert near < 0.7 * np.abs(mixed.win_rates(whole.prototypes) - whole.win_rates(whole.prototypes)).mean()
    assert thinned(whole, 100, seed=1) is whole


def test_models_that_cannot_be_rated_are_left_out() -> None:
    rows = world.battles(400, 2)
    extra = rows.head(5).with_columns(model_a=pl.lit("new"), winner=pl.lit("model_a").cast(rows.schema["winner"]))
    both = pl.concat([rows, extra])
    kept = rated_battles(both, world.STRONG, world.WEAK, min_battles=1)
    assert kept.height == rows.height, "a model that never loses has no finite rating"
    tied = extra.with_columns(winner=pl.lit("tie").cast(rows.schema["winner"]))
    assert rated_battles(pl.concat([rows, tied]), world.STRONG, world.WEAK, min_battles=1).height == rows.height + 5
    assert rated_battles(pl.concat([rows, tied]), world.STRONG, world.WEAK, min_battles=6).height == rows.height
    with pytest.raises(DataError, match=r"no chain of wins leads from 'm0' to 'new'"):
        rated_battles(both, world.STRONG, "new", min_battles=1)
    with pytest.raises(DataError, match=r"models \['new'\] have fewer than 6 battles"):
        rated_battles(both, world.STRONG, "new", min_battles=6)


def test_sw_refuses_what_it_cannot_store_or_rate(encoder_folder: Path) -> None:
    data, run = world.dataset(600), world.Reports().run()
    embed = world.embeddings(encoder_folder, counts=False)
    with pytest.raises(ConfigError, match="max_prototypes must be at least 1, got 0"):
        fit_sw(data, embed, SwConfig(tiers=2, max_prototypes=0), run)
    with pytest.raises(DataError, match="10 tiers of 6 models"):
        fit_sw(data, embed, SwConfig(), run)
