"""Which studies are accepted, and which cells they have. Needs no torch."""

import tomllib
from typing import Any

import polars as pl
import pytest

from jobs.config_file import parse
from jobs.study import plan
from jobs.study_cells import Table
from jobs.study_config import BenchmarkSection, StudyConfig
from routing.errors import ConfigError

STUDY = """
name = "s"
output = "out"

[[benchmarks]]
name = "exam"
path = "exam.parquet"
strong = "a"
weak = "b"
sizes = [10, 20]
draws = 3

[[arms]]
name = "all"
sources = ["x"]
in_domain = true

[[arms]]
name = "none"
sources = ["x"]

[[kinds]]
name = "k"
config = "k.toml"
"""


def read(*changes: tuple[str, str]) -> StudyConfig:
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(StudyConfig, tomllib.loads(text), source="study.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sizes = [10, 20]", "sizes = [20, 10]", r"expected rising numbers of labels, each at least 1, got \[20, 10\]"),
        ("sizes = [10, 20]", "sizes = [0, 20]", r"expected rising numbers of labels, each at least 1, got \[0, 20\]"),
        ("sizes = [10, 20]", "sizes = [20]\nfolds = 5", "give sizes or folds, not both; name the table twice"),
        ("sizes = [10, 20]", "size = [10]", r"benchmarks.0.size: unknown key; did you mean 'sizes'\?"),
        ('sources = ["x"]\nin_domain = true', "", "an arm needs sources, in_domain = true, or both"),
        ('name = "none"', 'name = "all"', r"arms: \['all'\] are named twice; give each a name of its own"),
        ("draws = 3", 'arms = ["some"]', r"benchmarks: 'exam' names the arms \['some'\]; there are \['all', 'none'\]"),
        ("k.toml", 'k.toml"\narms = ["some"]\n#', r"kinds: 'k' names the arms \['some'\]; there are \['all', 'none'\]"),
        (
            "k.toml", 'k.toml"\nper_arm = { some = { fit = {} } }\n#',
            r"kinds: per_arm of 'k' names the arms \['some'\]; there are \['all', 'none'\]",
        ),
        ("draws = 3", "draws = 0", "benchmarks.0.draws: Input should be greater than or equal to 1, got 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read((old, new))


def test_arms_are_run_where_both_sides_want_them() -> None:
    def arms(*changes: tuple[str, str]) -> list[str]:
        study = read(*changes)
        return [arm.name for arm in study.arms_of(study.kinds[0], study.benchmarks[0])]

    assert arms() == ["all", "none"]
    assert arms(("draws = 3", 'arms = ["none"]')) == ["none"]
    assert arms(("k.toml", 'k.toml"\narms = ["all"]\n#')) == ["all"]
    assert arms(("draws = 3", 'arms = ["none"]'), ("k.toml", 'k.toml"\narms = ["all"]\n#')) == []
    assert arms(("sizes = [10, 20]", "folds = 5")) == ["all", "none"]
    assert arms(("sizes = [10, 20]", "")) == ["none"], "no labels are drawn"


def table(**section: Any) -> Table:
    known = {"name": "exam", "path": "exam.parquet", "strong": "a", "weak": "b"}
    rows = pl.DataFrame({"prompt": [f"p{place:02}" for place in range(30)]})
    return Table(BenchmarkSection(**known, **section), rows, "sha")


def test_routers_with_and_without_labels_are_evaluated_on_the_same_prompts() -> None:
    sampled = table(sizes=[10, 20], draws=3)
    small, large = plan(sampled, in_domain=True, seed=1)
    ((first,), (second,), (third,)) = plan(sampled, in_domain=False, seed=1)[0]
    for alone, draw in zip((first, second, third), range(3), strict=True):
        assert len(alone.labelled) == 0
        assert alone.evaluated.tolist() == small[draw][0].evaluated.tolist() == large[draw][0].evaluated.tolist()
        assert (len(small[draw][0].labelled), len(large[draw][0].labelled)) == (10, 20)
        assert not set(large[draw][0].labelled) & set(alone.evaluated)
    assert first.evaluated.tolist() != second.evaluated.tolist()


def test_folds_and_whole_benchmarks() -> None:
    folded = table(folds=5, draws=2)
    (draws,) = plan(folded, in_domain=True, seed=1)
    assert [len(draw) for draw in draws] == [5, 5]
    for section in (folded, table()):
        (((whole,),),) = plan(section, in_domain=False, seed=1)
        assert (len(whole.labelled), whole.evaluated.tolist()) == (0, list(range(30)))
