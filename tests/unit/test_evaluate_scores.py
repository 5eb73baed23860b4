"""Win rates come from the cache where they are in it; the cache may be deleted, damaged or of another router."""

from pathlib import Path

import polars as pl
import pytest

from jobs.evaluate_config import EvaluateConfig, EvaluateJob
from jobs.evaluate_scores import OpenRouter, Scorer, open_routers
from routing.errors import ArtifactError, ConfigError
from routing.routers import TOKENIZE_ROWS
from tests.fakes import FakeClock, save_adding_router, save_embedding_router, write_card

PROMPTS = ["7", "12 30", "1 2 3 4 5 6", "7"]
RATES = [0.007, 0.042, 0.017, 0.007]
"""The adding router reads the first three and the last two tokens."""


def job(folder: Path, *routers: dict[str, object]) -> EvaluateJob:
    config = EvaluateConfig.model_validate(
        {"output": "out", "routers": routers, "benchmarks": [{"name": "b", "path": "p", "strong": "s", "weak": "w"}]}
    )
    return EvaluateJob(config, folder)


@pytest.fixture
def router(tmp_path: Path) -> OpenRouter:
    save_adding_router(tmp_path / "adding")
    return open_routers(job(tmp_path, {"artifact": "adding"}))[0]


def scorer(router: OpenRouter, folder: Path) -> Scorer:
    return Scorer([router], folder / "cache", FakeClock())


class Counting:
    """Counts what a router is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, router: OpenRouter) -> None:
        self.asked: list[int] = []
        win_rates = router.router.win_rates

        def counted(texts: list[str]) -> object:
            self.asked.append(len(texts))
            return win_rates(texts)

        monkeypatch.setattr(router.router, "win_rates", counted)


def cached(folder: Path) -> list[Path]:
    return sorted((folder / "cache").rglob("*.parquet"))


def test_what_was_scored_is_read_the_next_time(
    tmp_path: Path, router: OpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counting(monkeypatch, router)
    assert scorer(router, tmp_path).win_rates("adding", PROMPTS).tolist() == RATES
    assert scorer(router, tmp_path).win_rates("adding", PROMPTS).tolist() == RATES
    assert counter.asked == [4]
    (file,) = cached(tmp_path)
    assert file.parent.parent.name == router.artifact.sha256
    # Other prompts, or the same in another order, are scored for themselves.
    assert scorer(router, tmp_path).win_rates("adding", PROMPTS[::-1]).tolist() == RATES[::-1]
    assert counter.asked == [4, 4]
    assert len(cached(tmp_path)) == 2


def test_the_cache_may_be_deleted(tmp_path: Path, router: OpenRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counting(monkeypatch, router)
    scorer(router, tmp_path).win_rates("adding", PROMPTS)
    cached(tmp_path)[0].unlink()
    assert scorer(router, tmp_path).win_rates("adding", PROMPTS).tolist() == RATES
    assert counter.asked == [4, 4]


def damages() -> dict[str, object]:
    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 0xFF
        file.write_bytes(content)

    def other_values(file: Path) -> None:
        pl.DataFrame({"win_rate": [0.5] * 4}).write_parquet(file)

    return {
        "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
        "empty": lambda file: file.write_bytes(b""),
        "flipped": flip,
        "other values": other_values,
        "of other prompts": lambda file: file.write_bytes(
            next(other for other in file.parents[2].rglob("*.parquet") if other != file).read_bytes()
        ),
    }


@pytest.mark.parametrize("how", damages())
def test_a_damaged_file_is_scored_again(
    tmp_path: Path, router: OpenRouter, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    scorer(router, tmp_path).win_rates("adding", PROMPTS)
    (file,) = cached(tmp_path)
    scorer(router, tmp_path).win_rates("adding", PROMPTS[:3])
    damage = damages()[how]
    assert callable(damage)
    damage(file)
    assert scorer(router, tmp_path).win_rates("adding", PROMPTS).tolist() == RATES
    assert f"the cached win rates {file} are damaged; scored again" in capsys.readouterr().err
    scorer(router, tmp_path).win_rates("adding", PROMPTS)
    assert "damaged" not in capsys.readouterr().err


def test_another_artifact_has_its_own_win_rates(tmp_path: Path, router: OpenRouter) -> None:
    scorer(router, tmp_path).win_rates("adding", PROMPTS)
    write_card(tmp_path / "adding", limits=["retrained"])
    again = open_routers(job(tmp_path, {"artifact": "adding"}))[0]
    scorer(again, tmp_path).win_rates("adding", PROMPTS)
    assert len({file.parent.parent.name for file in cached(tmp_path)}) == 2


def test_what_a_killed_run_has_scored_is_not_scored_again(
    tmp_path: Path, router: OpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [str(i % 900 + 1) for i in range(TOKENIZE_ROWS + 5)]
    counter = Counting(monkeypatch, router)
    scored = router.router.win_rates

    def killed(texts: list[str]) -> object:
        if len(texts) == 5:
            raise KeyboardInterrupt
        return scored(texts)

    with monkeypatch.context() as patch:
        patch.setattr(router.router, "win_rates", killed)
        with pytest.raises(KeyboardInterrupt):
            scorer(router, tmp_path).win_rates("adding", prompts)
    rates = scorer(router, tmp_path).win_rates("adding", prompts)
    assert rates.tolist() == [round(int(text) / 1000, 6) for text in prompts]
    assert counter.asked == [TOKENIZE_ROWS, 5]
    assert [file.name for file in cached(tmp_path)] == ["00000.parquet", "00001.parquet"]


def test_the_speed_is_told(tmp_path: Path, router: OpenRouter, capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([10.0, 12.0])
    Scorer([router], tmp_path, lambda: next(times)).win_rates("adding", PROMPTS)
    assert "adding: 4 prompts scored in 2 s, 2 a second" in capsys.readouterr().err


def test_routers_are_described_by_their_cards(tmp_path: Path) -> None:
    save_adding_router(tmp_path / "one")
    write_card(tmp_path / "one", kind="bert", trained_pair="a over b", licence="MIT")
    opened = open_routers(job(tmp_path, {"artifact": "one"}, {"artifact": "one", "name": "again"}))
    assert [(router.described.name, router.described.kind) for router in opened] == [
        ("adding", "bert"),
        ("again", "bert"),
    ]
    first = opened[0].described
    assert (first.trained_pair, first.licence, first.sha256) == ("a over b", "MIT", opened[0].artifact.sha256)


def test_routers_that_cannot_be_evaluated_are_refused_before_anything_is_scored(tmp_path: Path) -> None:
    save_adding_router(tmp_path / "good")
    save_embedding_router(tmp_path / "embedding")
    with pytest.raises(ConfigError, match=r"routers\.1: 'first-number' starts at an embedding \(openai text-embedding"):
        open_routers(job(tmp_path, {"artifact": "good"}, {"artifact": "embedding"}))
    with pytest.raises(ConfigError, match=r"routers\.1: the name 'adding' is taken"):
        open_routers(job(tmp_path, {"artifact": "good"}, {"artifact": "good"}))
    write_card(tmp_path / "good", name="length")
    with pytest.raises(ConfigError, match=r"routers\.0: the name 'length' is taken"):
        open_routers(job(tmp_path, {"artifact": "good"}))
    with pytest.raises(ArtifactError, match="has no readable"):
        open_routers(job(tmp_path, {"artifact": "nowhere"}))
