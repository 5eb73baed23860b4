"""RouteLLM's bilinear model on embeddings whose first coordinate says who wins."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the extra `train`")

from routing.errors import ConfigError, DataError  # noqa: E402
from routing.training.dataset import Classes, TrainingSet, split  # noqa: E402
from routing.training.loop import LoopConfig, held_out_apgr  # noqa: E402
from routing.training.mf import MfConfig, MfModel, fit_mf  # noqa: E402
from routing.training.router import Progress, Run  # noqa: E402
from schemas.preferences import Battles  # noqa: E402

DIM = 6
CONFIG = MfConfig(
    rank=8, noise=0.05, loop=LoopConfig(learning_rate=0.02, epochs=5, batch_rows=64, batch_tokens=64, eval_every=20)
)


def embed(prompts: object) -> np.ndarray:
    """The vector that a prompt's number draws: the same for the same prompt."""
    numbers = [int(str(prompt).split()[1]) for prompt in prompts]  # type: ignore[attr-defined]
    return np.stack([np.random.default_rng(n).normal(size=DIM) for n in numbers]).astype(np.float32)


def battles(n: int = 1_500) -> pl.DataFrame:
    """`poet` beats `prover` where the first coordinate is positive; `clerk` loses to both; a tenth are ties."""
    rng = np.random.default_rng(0)
    prompts = [f"prompt {i} of the world" for i in range(n)]
    lead = embed(prompts)[:, 0]
    names = np.array(["poet", "prover", "clerk"])
    a, b = rng.integers(0, 3, n), rng.integers(1, 3, n)
    b = (a + b) % 3
    strength = np.stack([2 * lead, -2 * lead, np.full(n, -6.0)])
    first = rng.random(n) < 1 / (1 + np.exp(strength[b, np.arange(n)] - strength[a, np.arange(n)]))
    winner = np.where(rng.random(n) < 0.1, "tie", np.where(first, "model_a", "model_b"))
    columns = {"prompt": prompts, "model_a": names[a], "model_b": names[b], "winner": winner, "weight": 1.0}
    return Battles.validate(
        pl.DataFrame(columns | {"source": "world"}).cast({"winner": pl.Enum(["model_a", "model_b", "tie"])})
    )


def dataset() -> TrainingSet:
    classes = Classes(strong=("poet",), weak=("prover",))
    return split(battles(), classes, strong="poet", weak="prover", share=0.2, seed=0)


def run(report: object = None, seed: int = 0) -> Run:
    return Run(seed, 1, "cpu", report or (lambda progress: None))  # type: ignore[arg-type]


def test_the_fit_finds_who_wins_and_the_pair_vector_is_the_same_model() -> None:
    reports: list[Progress] = []
    head = fit_mf(dataset(), embed, CONFIG, run(reports.append))
    queries = embed([f"x {n}" for n in range(5_000, 5_400)])
    rates = head.win_rates(queries)
    assert np.corrcoef(rates, 1 / (1 + np.exp(-4 * queries[:, 0])))[0, 1] > 0.9
    weight, bias = head.pair_vector()
    assert bias == 0.0
    assert 1 / (1 + np.exp(-(queries @ weight + bias))) == pytest.approx(rates, abs=1e-6)
    judged = [p for p in reports if p.validation_loss is not None]
    losses = [p.validation_loss for p in judged if p.validation_loss is not None]
    assert losses[-1] < losses[0]
    target = dataset().held_out_labels["target"].to_numpy()
    assert judged[-1].apgr == held_out_apgr(head.win_rates(embed(dataset().held_out_labels["prompt"])), target)


def test_the_bias_of_the_paper_lets_one_model_win_everywhere() -> None:
    data = replace(dataset(), strong="prover", weak="clerk")
    head = fit_mf(data, embed, replace(CONFIG, bias=True), run())
    weight, bias = head.pair_vector()
    assert bias > 1.0
    queries = embed([f"x {n}" for n in range(50)])
    assert 1 / (1 + np.exp(-(queries @ weight + bias))) == pytest.approx(head.win_rates(queries), abs=1e-6)


def test_the_formula_is_routellms() -> None:
    """RouteLLM's forward pass, written with torch's own layers: normalised P, text_proj, classifier."""
    rng = np.random.default_rng(1)
    vectors, projection, classifier = rng.normal(size=(3, 4)), rng.normal(size=(4, DIM)), rng.normal(size=4)
    arrays = [part.astype(np.float32) for part in (vectors, projection, classifier)]
    head = MfModel(("a", "b", "c"), *arrays).pair(strong="c", weak="a")
    queries = embed([f"x {n}" for n in range(20)])
    p, w, c = (torch.from_numpy(part) for part in arrays)
    units = torch.nn.functional.normalize(p[[2, 0]], p=2, dim=1)
    scores = torch.nn.functional.linear(units[None] * (torch.from_numpy(queries) @ w.T)[:, None], c[None]).squeeze(-1)
    expected = torch.sigmoid(scores[:, 0] - scores[:, 1]).numpy()
    assert head.win_rates(queries) == pytest.approx(expected, abs=1e-6)


def test_the_fit_is_reproducible_and_noise_is_in_training_only() -> None:
    queries = embed([f"x {n}" for n in range(50)])
    short = replace(CONFIG, loop=replace(CONFIG.loop, epochs=1))
    head, same, other = (fit_mf(dataset(), embed, short, run(seed=seed)) for seed in (0, 0, 1))
    assert (head.win_rates(queries) == same.win_rates(queries)).all()
    assert (head.win_rates(queries) == head.win_rates(queries)).all()
    assert (head.win_rates(queries) != other.win_rates(queries)).any()
    quiet = fit_mf(dataset(), embed, replace(short, noise=0.0), run())
    assert (quiet.win_rates(queries) != head.win_rates(queries)).any()


def test_dropped_ties_are_not_seen() -> None:
    data = dataset()
    no_ties = replace(
        data,
        battles=data.battles.filter(pl.col("winner") != "tie"),
        held_out_battles=data.held_out_battles.filter(pl.col("winner") != "tie"),
    )
    short = replace(CONFIG, loop=replace(CONFIG.loop, epochs=1))
    queries = embed([f"x {n}" for n in range(50)])
    dropped = fit_mf(data, embed, replace(short, drop_ties=True), run()).win_rates(queries)
    assert (dropped == fit_mf(no_ties, embed, short, run()).win_rates(queries)).all()
    assert (dropped != fit_mf(data, embed, short, run()).win_rates(queries)).any()


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"model 'proverr' is not among the 3 models .* nearest are \['prover'"):
        fit_mf(replace(dataset(), weak="proverr"), embed, CONFIG, run())
    model = MfModel(("a", "b"), np.eye(2, 4, dtype=np.float32), np.ones((4, 3), np.float32), np.ones(4, np.float32))
    with pytest.raises(DataError, match="model 'z' is not among the 2 models"):
        model.pair(strong="z", weak="a")
    with pytest.raises(ConfigError, match="rank of at least 1"):
        replace(CONFIG, rank=0)
