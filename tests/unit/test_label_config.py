import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs import label_config
from jobs.config import Budget, Dispatch, Input, Model, RouterSection
from jobs.config_file import parse
from jobs.label_config import LabelConfig, LabelJob, load_label
from routing.errors import ConfigError, InputMissingError
from schemas.billing import PriceOverride
from schemas.labels import Judged
from tests.config_pages import documented, expected

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "label.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": LabelConfig,
    "`[sample]`": label_config.Sample,
    "`[models]`": label_config.LabelModels,
    "`[judge]`": label_config.Judge,
    "`[golden]`": label_config.Golden,
    "`[output]`": label_config.LabelOutput,
}
SOURCE = "\n".join(
    path.read_text(encoding="utf-8") for folder in ("jobs", "routing") for path in (ROOT / folder).glob("*.py")
)
MESSAGES = re.findall(r"^\| (\d+) \| `([^`]+)` \|", PAGE, re.M)
OF_THE_JOB_CONFIG = {Input, RouterSection, Dispatch, Budget, Model, PriceOverride}
MINIMAL = """
run_dir = "run"
input.path = "in"
sample.size = 10
models.strong = { name = "a", base_url = "http://s/v1" }
models.weak = { name = "b", base_url = "http://s/v1" }
models.judge = { name = "j", base_url = "http://s/v1" }
output.path = "out.parquet"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "label.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_names_every_key_with_its_default(heading: str) -> None:
    assert documented(PAGE, heading) == expected(SECTIONS[heading])


def test_every_section_is_on_the_page_or_one_of_the_job_config() -> None:
    found: set[type[BaseModel]] = set()
    left: list[type[BaseModel]] = [LabelConfig]
    while left:
        model = left.pop()
        found.add(model)
        if model in OF_THE_JOB_CONFIG:
            continue
        kinds = [
            kind
            for field in model.model_fields.values()
            for kind in (field.annotation, *getattr(field.annotation, "__args__", ()))
        ]
        left += [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    assert found == set(SECTIONS.values()) | OF_THE_JOB_CONFIG


def test_the_page_names_every_column_of_the_table() -> None:
    table = PAGE.split("\n## The table\n")[1].split("\n## ")[0]
    assert not [name for name in Judged.column_names() if f"`{name}`" not in table]


def test_every_message_on_the_page_is_one_that_the_program_writes() -> None:
    assert len(MESSAGES) > 10
    assert not [fragment for _, fragment in MESSAGES if fragment not in SOURCE]
    assert {int(code) for code, _ in MESSAGES} <= {65, 66, 78, 99}


def test_the_example_on_the_page_and_the_shipped_one_are_configs() -> None:
    example = PAGE.split("```toml\n")[1].split("```")[0]
    assert parse(LabelConfig, tomllib.loads(example), source="docs/label.md").sample.allocation == "equal"
    job = load_label(ROOT / "examples" / "label.toml")
    assert set(job.config.asked()) == {"strong", "weak", "judge"}
    assert job.judge_prompt() is not None


def told(file: Path, *overrides: str, golden: str | None = None) -> LabelJob:
    return load_label(file, overrides=overrides, golden=golden)


def test_a_golden_column_goes_before_the_judge(file: Path) -> None:
    assert set(told(file).config.asked()) == {"strong", "weak", "judge"}
    job = told(file, golden='odd "name"')
    assert job.config.golden.column == 'odd "name"'
    assert set(job.config.asked()) == {"strong", "weak"}
    assert job.judge_prompt() is None


@pytest.mark.parametrize(
    ("overrides", "needle"),
    [
        (["models.weak.name=a"], "are both called 'a'"),
        (["models.judge.name=a", "models.judge.base_url=http://t/v1"], "two models are called 'a'"),
        (["output.path=out"], "must name a Parquet file"),
        (["sample.size=0"], "sample.size"),
        (["golden.match=fuzzy"], "golden.match"),
        (["split.alpha=0.5"], "split: unknown key"),
    ],
)
def test_what_cannot_be_is_refused(file: Path, overrides: list[str], needle: str) -> None:
    with pytest.raises(ConfigError, match=needle):
        told(file, *overrides)


def test_somebody_has_to_label(file: Path) -> None:
    file.write_text(MINIMAL.replace("models.judge", "# models.judge"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"nobody labels: add \[models.judge\], or golden.column"):
        told(file)
    assert told(file, golden="gold").config.golden.column == "gold"


def test_the_judge_may_be_one_of_the_pair(file: Path) -> None:
    assert told(file, "models.judge.name=a").config.asked()["judge"].name == "a"


def test_templates_are_files_beside_the_config(file: Path) -> None:
    (file.parent / "mine.txt").write_text("{question} {answer_a} {answer_b}\n", encoding="utf-8")
    prompt = told(file, "judge.template=mine.txt", 'judge.system=""').judge_prompt()
    assert prompt is not None
    assert (prompt.template, prompt.system) == ("{question} {answer_a} {answer_b}", None)


@pytest.mark.parametrize(
    ("content", "error", "needle"),
    [
        (None, InputMissingError, "judge.template: .*mine.txt cannot be read"),
        (b"\xff\xfe", ConfigError, "is no UTF-8 text"),
        (b"{question} {answer_a}", ConfigError, r"mine.txt lacks \{answer_b\}"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(file: Path, content: bytes | None, error: Any, needle: str) -> None:
    if content is not None:
        (file.parent / "mine.txt").write_bytes(content)
    with pytest.raises(error, match=needle):
        told(file, "judge.template=mine.txt").judge_prompt()


def test_a_shipped_template_is_looked_up_not_joined(file: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"'builtin:../x' is not shipped .* \['builtin:pair-system', 'builtin:pair'\]"
    ):
        told(file, "judge.template=builtin:../x").judge_prompt()
    (file.parent / "system.txt").write_text("Mind {question}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"judge\.system holds a placeholder"):
        told(file, "judge.system=system.txt").judge_prompt()
