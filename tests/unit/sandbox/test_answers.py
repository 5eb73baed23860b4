import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from routing.sandbox.answers import Answerer, ChatAnswer, cost_usd, hashed_embedding
from routing.sandbox.config import ModelSpec, ReplayConfig, ScriptedReply
from routing.sandbox.replay import Replay
from routing.sandbox.tokens import TokenCounter
from routing.sandbox.wire import Usage, read_chat
from tests.unit.sandbox.support import QUESTION_TOKENS, ask


@pytest.fixture(scope="module")
def counter(tokenizer_path: Path) -> TokenCounter:
    return TokenCounter.from_file(tokenizer_path)


def answer(counter: TokenCounter, spec: ModelSpec, *, seed: int = 0, **fields: object) -> ChatAnswer:
    request = read_chat(json.dumps(ask(model=spec.name, **fields)).encode())
    return Answerer(counter, seed=seed).chat(request, spec)


def test_reasoning_is_part_of_the_completion(counter: TokenCounter) -> None:
    got = answer(counter, ModelSpec(name="thinker", reasoning_tokens=50))
    assert got.usage.reasoning_tokens == 50
    assert got.usage.completion_tokens == counter.count(got.content) + 50
    assert got.finish_reason == "stop"


@pytest.mark.parametrize(("max_tokens", "reasoning", "visible"), [(70, 50, 20), (51, 50, 1), (50, 50, 0), (30, 30, 0)])
def test_the_limit_holds_for_reasoning_and_text_together(
    counter: TokenCounter, max_tokens: int, reasoning: int, visible: int
) -> None:
    got = answer(counter, ModelSpec(name="thinker", reasoning_tokens=50), max_completion_tokens=max_tokens)
    assert got.finish_reason == "length"
    assert (got.usage.reasoning_tokens, counter.count(got.content)) == (reasoning, visible)
    assert got.usage.completion_tokens == max_tokens


def test_the_cached_share_is_rounded_down(counter: TokenCounter) -> None:
    # Prompt tokens are 14; 14 * 0.5 = 7, 14 * 0.6 = 8.4, and 10 of 14 is not lost to a float's 9.999.
    assert [answer(counter, ModelSpec(name="m", cached_share=s)).usage.cached_tokens for s in (0, 0.5, 0.6, 1)] == [
        0,
        7,
        8,
        14,
    ]


def test_seed_and_model_change_the_answer(counter: TokenCounter) -> None:
    texts = {answer(counter, ModelSpec(name=name), seed=seed).content for name in ("a", "b") for seed in (0, 1)}
    assert len(texts) == 4


def test_length_settings_change_no_usage_of_the_prompt(counter: TokenCounter) -> None:
    assert (
        answer(counter, ModelSpec(name="m", mean_output_tokens=9), max_tokens=3).usage.prompt_tokens == QUESTION_TOKENS
    )


def test_a_filter_lets_half_of_the_text_through(counter: TokenCounter) -> None:
    whole = answer(counter, ModelSpec(name="m", reasoning_tokens=5))
    half = whole.filtered(counter)
    assert half.finish_reason == "content_filter"
    assert whole.content.startswith(half.content)
    assert half.usage.completion_tokens == counter.count(half.content) + 5
    assert counter.count(half.content) == counter.count(whole.content) // 2 > 0


def test_cost_is_exact() -> None:
    spec = ModelSpec(
        name="m",
        input_usd_per_mtok=Decimal("0.15"),
        cached_input_usd_per_mtok=Decimal("0.0375"),
        output_usd_per_mtok=Decimal("0.60"),
    )
    # (1000 - 3) * 0.15 + 3 * 0.0375 + 7 * 0.60 = 149.55 + 0.1125 + 4.2 = 153.8625 millionths.
    assert cost_usd(Usage(1000, 7, 3), spec) == Decimal("0.0001538625")
    dear = spec.model_copy(update={"cached_input_usd_per_mtok": None})
    # 1000 * 0.15 + 4.2 = 154.2 millionths.
    assert cost_usd(Usage(1000, 7, 3), dear) == Decimal("0.0001542")
    assert cost_usd(Usage(1000, 7), ModelSpec(name="m")) is None


def test_embeddings_are_unit_vectors_and_know_common_tokens() -> None:
    first, near, far = (hashed_embedding(ids, 256, seed=0) for ids in ([5, 6, 7, 8], [5, 6, 7, 9], [15, 16, 17, 18]))
    assert first.shape == (256,)
    assert first.dtype == np.float32
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-6)
    # Three of four tokens in common: cosine 3/4, but for coordinates that collide.
    assert first @ near == pytest.approx(0.75, abs=0.2)
    assert abs(first @ far) < 0.4
    assert np.array_equal(first, hashed_embedding([5, 6, 7, 8], 256, seed=0))
    assert not np.array_equal(first, hashed_embedding([5, 6, 7, 8], 256, seed=1))


def test_unrelated_embeddings_are_unbiased() -> None:
    rng = np.random.default_rng(0)
    vectors = np.stack([hashed_embedding(rng.integers(0, 2**31, 20).tolist(), 256, seed=0) for _ in range(200)])
    cosines = (vectors @ vectors.T)[np.triu_indices(200, 1)]
    # Random directions in 256 dimensions: mean 0, standard deviation 1/16.
    assert abs(cosines.mean()) < 0.005
    assert cosines.std() == pytest.approx(1 / 16, rel=0.1)


def test_a_text_without_tokens_has_an_embedding() -> None:
    assert hashed_embedding([], 4, seed=0).tolist() == [1, 0, 0, 0]


# ---- scripted replies -----------------------------------------------------------------------------------------------

SCRIPT = (
    ScriptedReply(pattern=r"(?s)red.*blue", reply="The first. [[A]]", model="judge"),
    ScriptedReply(pattern="blue", reply="The second."),
)


def scripted(counter: TokenCounter, model: str, text: str, **fields: object) -> ChatAnswer:
    messages = [{"role": "user", "content": text}]
    request = read_chat(json.dumps({"model": model, "messages": messages, **fields}).encode())
    return Answerer(counter, seed=0, scripted=SCRIPT).chat(request, ModelSpec(name=model))


def test_the_first_pattern_that_holds_is_answered(counter: TokenCounter) -> None:
    assert scripted(counter, "judge", "red\nand blue").content == "The first. [[A]]"
    assert scripted(counter, "other", "red\nand blue").content == "The second."
    assert scripted(counter, "judge", "blue, then red").content == "The second."
    assert scripted(counter, "judge", "green").content == answer_of(counter, "judge", "green")


def answer_of(counter: TokenCounter, model: str, text: str) -> str:
    """What is made up without a script."""
    request = read_chat(json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode())
    return Answerer(counter, seed=0).chat(request, ModelSpec(name=model)).content


def test_a_scripted_reply_is_counted_and_cut_like_any_other(counter: TokenCounter) -> None:
    whole = scripted(counter, "m", "blue")
    assert (whole.finish_reason, whole.usage.completion_tokens) == ("stop", counter.count("The second."))
    cut = scripted(counter, "m", "blue", max_tokens=2)
    assert (cut.content, cut.finish_reason, cut.usage.completion_tokens) == ("The second", "length", 2)


def test_a_script_goes_before_recorded_answers(counter: TokenCounter, tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    pl.DataFrame({"prompt": ["blue", "green"], "model": ["m", "m"], "response": ["x", "y"]}).write_parquet(path)
    answerer = Answerer(counter, seed=0, replay=Replay(ReplayConfig(path=path)), scripted=SCRIPT)
    texts = []
    for prompt in ("blue", "green"):
        messages = [{"role": "user", "content": prompt}]
        request = read_chat(json.dumps({"model": "m", "messages": messages}).encode())
        texts.append(answerer.chat(request, ModelSpec(name="m")).content)
    assert texts == ["The second.", "y"]
