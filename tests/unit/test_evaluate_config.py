"""The evaluation config: what it refuses, and in which words."""

from pathlib import Path
from typing import Any

import pytest

from jobs.config_file import parse
from jobs.evaluate_config import BASELINES, EvaluateConfig, load_evaluation
from routing.errors import ConfigError

BENCHMARK = {"name": "exam", "path": "exam.csv", "strong": "s", "weak": "w"}
CONFIG: dict[str, Any] = {"output": "out", "routers": [{"artifact": "builtin:static-mf"}], "benchmarks": [BENCHMARK]}


def refused(changed: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(EvaluateConfig, CONFIG | changed, source="eval.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rooters": []}, "rooters: unknown key; did you mean 'routers'?"),
        ({"routers": []}, "routers: Tuple should have at least 1 item"),
        ({"benchmarks": [BENCHMARK | {"pth": "x"}]}, "benchmarks.0.pth: unknown key; did you mean 'path'?"),
        ({"benchmarks": [BENCHMARK, BENCHMARK]}, "benchmarks: ['exam'] are named twice; give every benchmark its own"),
        ({"benchmarks": [BENCHMARK | {"layout": "csv"}]}, "benchmarks.0.layout: Input should be 'routellm', 'correct"),
        ({"routers": [{"artifact": "a", "name": "oracle"}]}, "routers: ['oracle'] are names of baselines"),
        (
            {"routers": [{"artifact": "a", "name": "x"}] * 2},
            "routers: ['x'] are named twice; give every router its own",
        ),
        ({"resamples": 10}, "resamples: Input should be greater than or equal to 100"),
        (
            {"robustness": {"benchmarks": ["exm"]}},
            "robustness.benchmarks names ['exm'], the benchmarks of this evaluati",
        ),
        (
            {"transfer": {"tables": [{"name": "t", "path": "t.csv", "seen": "mmlu"}]}},
            "transfer.tables.seen names ['mmlu'], the benchmarks of this evaluation are ['exam']",
        ),
        (
            {"robustness": {"benchmarks": ["exam"], "strong_shares": [0.5, 1.5]}},
            "robustness.strong_shares.1: Input should be less than or equal to 1, got 1.5",
        ),
        (
            {"robustness": {"benchmarks": ["exam"], "confounder": {"max_queries": 287}}},
            "robustness.confounder: max_queries = 287 is less than the 288 of one round (16 candidates on 16 prompts)",
        ),
        ({"drift": {"pth": "x"}}, "drift.pth: unknown key; did you mean 'path'?"),
        ({"prices": [{"model": "m"}]}, "prices.0.input_usd_per_mtok: missing; add it"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(changed: dict[str, Any], message: str) -> None:
    assert message in refused(changed)


def test_the_names_of_all_baselines_are_taken() -> None:
    assert BASELINES == ("random", "length", "constant", "oracle")


def test_paths_start_from_the_config(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "eval.toml"
    path.parent.mkdir()
    path.write_text(
        'output = "../out"\n[[routers]]\nartifact = "builtin:static-mf"\n'
        '[[benchmarks]]\nname = "exam"\npath = "exam.csv"\nstrong = "s"\nweak = "w"\n',
        encoding="utf-8",
    )
    job = load_evaluation(path)
    assert job.output == tmp_path / "out"
    assert job.cache == tmp_path / "out" / "cache"
    assert load_evaluation(path, overrides=['cache="elsewhere"']).cache == tmp_path / "sub" / "elsewhere"
    assert load_evaluation(path, overrides=["resamples=500"]).config.resamples == 500
    with pytest.raises(ConfigError, match=r"eval\.toml:\n  resmples: unknown key; did you mean 'resamples'"):
        load_evaluation(path, overrides=["resmples=500"])
