import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs import config
from jobs.config import Job, JobConfig, load_job, override_job
from jobs.config_file import apply_override, parse, secret
from routing.errors import ConfigError, UsageError
from schemas.billing import PriceOverride
from tests.config_pages import documented, expected

PAGE = (Path(__file__).parents[2] / "docs" / "config.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": JobConfig,
    "`[input]`": config.Input,
    "`[router]`": config.RouterSection,
    "`[router.embedding]`": config.EmbeddingSection,
    "`[split]`": config.SplitSection,
    "`[models.strong]`, `[models.weak]`": config.Model,
    "`[dispatch]`": config.Dispatch,
    "`[budget]`": config.Budget,
    "`[[prices]]`": PriceOverride,
    "`[output]`": config.Output,
}
MINIMAL = """
run_dir = "run"
input.path = "in"
split.alpha = 0.5
models.strong = { name = "a", base_url = "http://s/v1" }
models.weak = { name = "b", base_url = "http://s/v1" }
output.path = "out"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


# ---- docs/config.md -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_names_every_key_with_its_default(section: str) -> None:
    assert documented(PAGE, section) == expected(SECTIONS[section])


def test_every_section_is_on_the_page() -> None:
    found: set[type[BaseModel]] = set()
    left: list[type[BaseModel]] = [JobConfig]
    while left:
        model = left.pop()
        found.add(model)
        inner = [
            kind
            for field in model.model_fields.values()
            for kind in (field.annotation, *getattr(field.annotation, "__args__", ()))
        ]
        left += [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found]
    assert found - {config.Models} == set(SECTIONS.values())


def test_the_example_on_the_page_is_a_config() -> None:
    example = PAGE.split("```toml\n")[1].split("```")[0]
    found = parse(JobConfig, tomllib.loads(example), source="docs/config.md")
    assert found.prices[0].output_usd_per_mtok == Decimal("0.10")
    assert found.budget.max_usd == 25


# ---- reading --------------------------------------------------------------------------------------------------------


def test_paths_start_at_the_config_file(file: Path) -> None:
    job = load_job(file)
    assert job.run_dir == file.parent / "run"
    assert job.path("../x") == file.parent.parent / "x"
    assert job.path("/tmp/x") == Path("/tmp/x")
    assert job.path("~/x") == Path.home() / "x"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a.b=1", {"a": {"b": 1}}),
        ("a.b = 1.5", {"a": {"b": 1.5}}),
        ("a=true", {"a": True}),
        ('a="1"', {"a": "1"}),
        ("a=word with = and spaces", {"a": "word with = and spaces"}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a.b={c = 1}", {"a": {"b": {"c": 1}}}),
        ("a=", {"a": ""}),
    ],
)
def test_overrides_are_toml_values_or_bare_words(override: str, expected: dict[str, Any]) -> None:
    data: dict[str, Any] = {}
    apply_override(data, override)
    assert data == expected


def test_an_override_leaves_its_neighbours() -> None:
    data = {"split": {"alpha": 0.5}, "x": 1}
    apply_override(data, "split.beta=2")
    assert data == {"split": {"alpha": 0.5, "beta": 2}, "x": 1}


def test_money_is_taken_by_its_text(file: Path) -> None:
    job = load_job(file, overrides=["budget.max_usd=0.1"])
    assert job.config.budget.max_usd == Decimal("0.1")
    assert override_job(job, ["budget.max_usd=0.3"]).config.budget.max_usd == Decimal("0.3")


def test_a_job_that_was_written_and_read_again_is_the_same(file: Path) -> None:
    job = load_job(
        file, overrides=["input.date_column=day", "prices=[{model='b', input_usd_per_mtok='1', output_usd_per_mtok=2}]"]
    )
    assert override_job(job, []).config == job.config


# ---- dates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["2026-11-20", "20261120"])
def test_calendar_dates_are_taken(file: Path, date: str) -> None:
    assert load_job(file, date=date).date == date


@pytest.mark.parametrize(
    "date", ["", "2026-02-30", "2026-11", "yesterday", "../2026-11-20", "2026-11-20T00:00", "{{ ds }}"]
)
def test_everything_else_is_refused(file: Path, date: str) -> None:
    with pytest.raises(UsageError, match="--date wants a calendar date such as 2026-11-20"):
        load_job(file, date=date)


@pytest.mark.parametrize(
    ("output", "column", "date", "expected", "key"),
    [
        ("out", None, None, "out", None),
        ("out", "day", None, "out", None),
        ("out", "day", "2026-11-20", "out/day=2026-11-20", "day"),
        ("out/{date}", "day", "2026-11-20", "out/2026-11-20", None),
        ("out/{date}", None, "2026-11-20", "out/2026-11-20", None),
        ("out", None, "2026-11-20", "out", None),
    ],
)
def test_where_the_output_of_a_date_goes(
    file: Path, output: str, column: str | None, date: str | None, expected: str, key: str | None
) -> None:
    overrides = [f"output.path={output}", *([] if column is None else [f"input.date_column={column}"])]
    job = load_job(file, overrides=overrides, date=date)
    assert (job.output, job.date_key) == (file.parent / expected, key)


def test_a_path_with_a_date_needs_one(file: Path) -> None:
    job = load_job(file)
    with pytest.raises(UsageError, match="no --date was given; add --date YYYY-MM-DD"):
        Job(job.config, job.base).path("runs/{date}")


# ---- complaints and secrets -----------------------------------------------------------------------------------------


def test_every_complaint_names_its_path(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_job(file, overrides=["split.alpha=2", "models.weak.rmp=1", "output.max_failed_share=x", "nmae=1"])
    lines = str(caught.value).splitlines()
    assert lines[0] == f"config {file}:"
    assert sorted(lines[1:]) == [
        "  models.weak.rmp: unknown key; did you mean 'rpm'?",
        "  nmae: unknown key; did you mean 'name'?",
        "  output.max_failed_share: Input should be a valid number, unable to parse string as a number, got 'x'",
        "  split.alpha: Input should be less than or equal to 1, got 2",
    ]


def test_a_secret_is_read_at_use() -> None:
    assert secret("KEY", needed_by="models.weak", environment={"KEY": "s"}) == "s"
    for environment in ({}, {"KEY": ""}):
        with pytest.raises(
            ConfigError, match=r"models\.weak needs the environment variable KEY, which is not set; export it"
        ):
            secret("KEY", needed_by="models.weak", environment=environment)
