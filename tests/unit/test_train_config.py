"""The configs of `nightroute train`: none of this needs the extra `train`."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from jobs.config_file import parse, read_toml
from jobs.train import read_config, train
from jobs.train_config import RouterConfig, StaticMfTrainConfig
from jobs.train_kinds import KINDS
from routing.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "examples" / "train"

CONFIG = """
kind = "linear"
name = "n"
output = "o"

[[sources]]
path = "battles.parquet"
licence = "made up"

[pair]
strong = "s"
weak = "w"

[card]
description = "d"
trained_pair = "s over w"
licence = "Apache-2.0"
limits = []
"""


def write(folder: Path, text: str, name: str = "config.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(path: Path) -> Any:
    data, _ = read_config(path)
    return parse(KINDS[data["kind"]], data, source=str(path))


def examples() -> list[Path]:
    return sorted(path for path in EXAMPLES.rglob("*.toml") if "kind" in read_config(path)[0])


@pytest.mark.parametrize("path", examples(), ids=lambda path: path.relative_to(EXAMPLES).as_posix())
def test_every_example_is_valid_and_learns_from_no_evaluation_set(path: Path) -> None:
    config = read(path)
    if isinstance(config, StaticMfTrainConfig):
        assert {"alpaca_eval", "openai_gsm8k", "prometheus_mt_bench"} <= set(config.exclude.sources)
        assert {"mmlu", "mot_gsm"} <= set(config.exclude.benchmarks)
        assert config.exclude.task_pattern == "ori_mmlu"
        assert not {item.name for item in config.evaluation} & set(config.families)
        return
    assert isinstance(config, RouterConfig)
    trained = {item.path for item in config.sources}
    own = [item for item in config.evaluation if item.path in trained]
    assert all(item.drop_trained for item in own)
    # Labels of the measured set may keep their siblings in it; then the figure says so.
    assert config.data.decontaminate or ("siblings" in own[0].protocol and len(own) == len(config.evaluation))


def test_there_is_an_example_of_every_kind() -> None:
    assert {read_config(path)[0]["kind"] for path in examples()} == set(KINDS)


def test_an_example_without_a_kind_is_there_to_be_extended() -> None:
    extended = {(path.parent / read_toml(path).get("extends", path.name)).resolve() for path in examples()}
    assert set(EXAMPLES.rglob("*.toml")) - set(examples()) <= extended


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "bort"', r"kind: got 'bort'; did you mean 'bert'\?"),
        ('kind = "transformer"', r"kind: got 'transformer'; expected one of \['static_mf', 'mf', "),
        ('kind = ["bert"]', r"kind: got \['bert'\]; did you mean 'bert'\?"),
        ('name = "no kind"', "kind: got None; expected one of"),
        (CONFIG + "[slpit]\nseed = 1", r"slpit: unknown key; did you mean 'split'\?"),
        (CONFIG + "[fit]\ndecays = [1.0]\nfold = 5", r"fit\.fold: unknown key; did you mean 'folds'\?"),
        (
            CONFIG + "[embedder]\nkind = 'encodr'",
            r"embedder\.kind: Input should be 'static' or 'encoder', got 'encodr'",
        ),
        (CONFIG + "[split]\nheld_out_share = 1.0", r"split\.held_out_share: .*less than 1, got 1\.0"),
        (CONFIG + "[data]\nmax_prompts = 0", r"data\.max_prompts: .*greater than or equal to 10"),
        (CONFIG + "[export]\nparity_prompts = 10", r"export\.parity_prompts: .*greater than or equal to 1000"),
        (CONFIG.replace("[[sources]]", "[ignored]"), "sources: missing; add it"),
        (CONFIG.replace('licence = "made up"', "").replace("path", "file"), r"sources\.0\.licence: missing; add it"),
        (CONFIG.replace("linear", "mf"), "fit: missing; add it"),
        (CONFIG.replace("linear", "sw") + "[fit]\ndtype = 'float64'", r"fit\.dtype: .*'float32' or 'float16'"),
        ('kind = "static_mf"\n[fit]\nquery_dekay = 1', r"fit\.query_dekay: unknown key; did you mean 'query_decay'"),
        ('kind = "static_mf"\nquerydecay = 1\n[fit]\nrank = -1', r"(?s)fit\.rank: .*querydecay: unknown key"),
    ],
)
def test_a_wrong_config_is_refused_first_and_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(write(tmp_path, text), environment={})


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("tiers = 10", "give tiers, strong_tiers and weak_tiers together, or none of them"),
        ("strong_tiers = [0]\nweak_tiers = [1]", "give tiers, strong_tiers and weak_tiers together"),
        ("tiers = 3\nstrong_tiers = [0]", "give tiers, strong_tiers and weak_tiers together"),
        ("tiers = 3\nstrong_tiers = [0, 3]\nweak_tiers = [2]", r"no tiers \[3\]; with tiers = 3 they run from 0"),
        ("tiers = 3\nstrong_tiers = [0, 1]\nweak_tiers = [1, 2]", r"tiers \[1\] stand on both sides"),
        (
            "tiers = 3\nstrong_tiers = [0]\nweak_tiers = [2]\nweak_models = ['x']",
            "name the sides by models or by tiers, not by both",
        ),
        ("strong_models = ['x', 'y']\nweak_models = ['y']", r"\['y'\] stand on both sides; a model is strong or weak"),
        ("strong_models = ['w']", r"\['w'\] stand on both sides"),
    ],
)
def test_rules_of_the_pair(tmp_path: Path, pair: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(write(tmp_path, CONFIG.replace('weak = "w"', f'weak = "w"\n{pair}')))


def test_a_pair_by_models_and_one_by_tiers(tmp_path: Path) -> None:
    found = read(write(tmp_path, CONFIG.replace('weak = "w"', 'weak = "w"\nstrong_models = ["s", "t"]')))
    assert found.pair.strong_models == ("s", "t")
    by_tiers = 'weak = "w"\ntiers = 10\nstrong_tiers = [0, 1]\nweak_tiers = [2]'
    assert read(write(tmp_path, CONFIG.replace('weak = "w"', by_tiers))).pair.tiers == 10


def test_evaluation_sets_have_names_of_their_own(tmp_path: Path) -> None:
    one = "[[evaluation]]\nname = 'mmlu'\npath = 'x.parquet'\nstrong = 's'\nweak = 'w'\nprotocol = 'p'\n"
    assert len(read(write(tmp_path, CONFIG + one)).evaluation) == 1
    with pytest.raises(ConfigError, match=r"\['mmlu'\] are named twice; give every evaluation set its own name"):
        read(write(tmp_path, CONFIG + one + one))


def test_the_nearer_file_wins_key_by_key_and_lists_are_replaced(tmp_path: Path) -> None:
    far = write(
        tmp_path, "a = 1\nb = 1\nlist = [1, 2]\n[t]\nx = 1\ny = 1\n[t.deep]\nx = 1\ny = 1\n[u]\nx = 1", "far.toml"
    )
    middle = write(tmp_path, "extends = '../far.toml'\nb = 2\n[t]\ny = 2\n[t.deep]\ny = 2", "sub/middle.toml")
    near = write(tmp_path, "extends = 'sub/middle.toml'\nu = 3\nlist = [3]\n[t.deep]\nz = 3", "near.toml")
    data, digest = read_config(near)
    assert data == {"a": 1, "b": 2, "list": [3], "u": 3, "t": {"x": 1, "y": 2, "deep": {"x": 1, "y": 2, "z": 3}}}
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (far, middle, near)]
    assert digest == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert read_config(far)[1] == digests[0]

    far.write_text(far.read_text().replace("a = 1", "a = 9"))
    assert read_config(near)[0]["a"] == 9
    assert read_config(near)[1] != digest


def test_a_circle_a_missing_file_and_no_file_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "extends = 'b.toml'", "a.toml")
    write(tmp_path, "extends = 'a.toml'", "b.toml")
    with pytest.raises(ConfigError, match=r"extends: expected one file, and no circle of files, got '[ab]\.toml'"):
        read_config(tmp_path / "a.toml")
    with pytest.raises(ConfigError, match=r"extends: expected one file, .*, got \['a\.toml', 'b\.toml'\]"):
        read_config(write(tmp_path, "extends = ['a.toml', 'b.toml']"))
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read"):
        read_config(write(tmp_path, "extends = 'absent.toml'"))
