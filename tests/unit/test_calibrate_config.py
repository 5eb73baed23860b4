"""docs/calibrate.md says what the config's models say; the config refuses what cannot be answered."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from polars.testing import assert_series_equal
from pydantic import BaseModel

from jobs import calibrate_config as config
from jobs.calibrate_tables import Labels, read_labels
from jobs.config import Input, Models, RouterSection
from jobs.config_file import parse
from routing import errors
from routing.benchmarks import COLUMNS
from routing.errors import ConfigError, DataError, InputMissingError
from schemas.billing import PriceOverride
from schemas.labels import Judged
from tests.config_pages import documented, expected

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "calibrate.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": config.CalibrateConfig,
    "`[labels]`": config.LabelsSection,
    "`[target]`": config.Target,
    "`[calibration]`": config.CalibrationSection,
    "`[output]`": config.ReportSection,
}
OF_THE_JOB_CONFIG = {Input, RouterSection, Models, PriceOverride}
SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("jobs", "routing", "routing/training")
    for path in (ROOT / folder).glob("*.py")
)
MESSAGES = re.findall(r"^\| (\d+) \| `([^`]+)` \|", PAGE, re.M)
LABELS: dict[str, Any] = {"labels": {"path": "labels.parquet"}}


# ---- docs/calibrate.md ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_names_every_key_with_its_default(heading: str) -> None:
    assert documented(PAGE, heading) == expected(SECTIONS[heading])


def test_every_section_is_on_the_page_or_one_of_the_job_config() -> None:
    found = {
        kind
        for field in config.CalibrateConfig.model_fields.values()
        for part in (field.annotation, *get_args(field.annotation))
        for kind in (part, *get_args(part))
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
    assert found == set(SECTIONS.values()) - {config.CalibrateConfig} | OF_THE_JOB_CONFIG


def test_the_layouts_are_those_that_are_read() -> None:
    options = get_args(get_args(config.LabelsSection.model_fields["layout"].annotation)[0])
    assert set(options) == set(COLUMNS)
    row = next(line for line in PAGE.splitlines() if line.startswith("| `layout`"))
    assert not [name for name in options if f"`{name}`" not in row]


def test_the_example_on_the_page_is_a_config() -> None:
    example = PAGE.split("```toml\n")[1].split("```")[0]
    found = parse(config.CalibrateConfig, tomllib.loads(example), source="docs/calibrate.md")
    assert found.target.confidence == 0.95
    assert found.calibration is not None


def test_every_message_on_the_page_is_one_that_the_program_writes_with_its_code() -> None:
    assert len(MESSAGES) > 10
    wrong = {}
    for code, fragment in MESSAGES:
        raised = [
            re.findall(r"(\w+Error)\(", SOURCE[: found.start()])[-1].replace("ValueError", "ConfigError")
            for found in re.finditer(re.escape(fragment), SOURCE)
        ]
        if int(code) not in {getattr(errors, name).exit_code for name in raised if hasattr(errors, name)}:
            wrong[fragment] = raised
    assert not wrong


# ---- what cannot be answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "needle"),
    [
        (LABELS, "nothing is asked for: give target.strong_share"),
        ({"target": {"strong_share": 0.3}}, "alpha is read from win rates: add [input]"),
        ({"target": {"pgr": 0.8}, "input": {"path": "in"}}, "learn from labels: add [labels]"),
        ({"calibration": {"output": "out"}, "input": {"path": "in"}}, "learn from labels: add [labels]"),
        ({**LABELS, "target": {"max_usd": "2"}}, "is the budget of a table: add [input]"),
        ({**LABELS, "target": {"pgr": 1.0}}, "target.pgr: Input should be less than 1, got 1.0"),
        (
            {**LABELS, "target": {"pgr": 0.8, "confidence": 95}},
            "target.confidence: Input should be less than 1, got 95",
        ),
        ({**LABELS, "target": {"gpr": 0.8}}, "target.gpr: unknown key; did you mean 'pgr'?"),
        ({"labels": {"path": "x", "strong": "a"}, "target": {"pgr": 0.5}}, "labels: name strong and weak, or neither"),
        (
            {**LABELS, "target": {"pgr": 0.5}, "router": {"embedding": {"base_url": "http://s/v1"}}},
            "[router.embedding] is not used here",
        ),
    ],
)
def test_a_config_that_cannot_be_answered_is_refused(data: dict[str, Any], needle: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(config.CalibrateConfig, data, source="calibrate.toml")
    assert needle in str(error.value)


# ---- labels ---------------------------------------------------------------------------------------------------------


def read(folder: Path, table: pl.DataFrame, **section: Any) -> Labels:
    table.write_parquet(folder / "labels.parquet")
    return read_labels(config.LabelsSection(path="labels.parquet", **section), folder)


def scores(labels: Labels) -> list[tuple[str, float, float]]:
    return list(labels.rows.select("prompt", "strong_score", "weak_score").iter_rows())


BATTLES = pl.DataFrame(
    {
        "prompt": ["one", "two", "three", "four"],
        "model_a": ["big"] * 4,
        "model_b": ["small"] * 4,
        "winner": ["model_a", "model_b", "tie", None],
    }
)


def test_battles_are_read_with_model_a_as_the_strong_one(tmp_path: Path) -> None:
    labels = read(tmp_path, BATTLES)
    assert scores(labels) == [("one", 1.0, 0.0), ("two", 0.0, 1.0), ("three", 0.5, 0.5)]
    assert labels.left_out == {"battles without a prompt or a winner": 1}
    assert labels.given is None
    turned = read(tmp_path, BATTLES, strong="small", weak="big")
    assert scores(turned)[0] == ("one", 0.0, 1.0)


def test_battles_of_more_than_two_models_want_the_pair(tmp_path: Path) -> None:
    more = BATTLES.with_columns(model_b=pl.Series(["small", "small", "small", "tiny"]))
    with pytest.raises(ConfigError, match=r"labels labels\.parquet: name the pair, as the table does"):
        read(tmp_path, more)
    assert len(read(tmp_path, more, strong="big", weak="small").rows) == 3


def test_what_nightroute_label_writes_is_read_as_it_is(tmp_path: Path) -> None:
    """A judged table has score columns too, and they are empty: it is read as battles."""
    judged = pl.DataFrame(
        {
            **{name: [None] * 3 for name in Judged.column_names()},
            "query_id": ["a", "b", "c"],
            "prompt": ["one", "two", "three"],
            "model_a": ["big"] * 3,
            "model_b": ["small"] * 3,
            "winner": ["model_a", "tie", None],
            "source": ["own_traffic"] * 3,
            "label_kind": ["judge"] * 3,
            "status": ["ok", "ok", "failed"],
            "win_rate": [0.7, 0.4, 0.5],
            "attempts": [4] * 3,
        },
        schema=Judged.create_empty().schema,
    )
    labels = read(tmp_path, pl.DataFrame(Judged.validate(judged)))
    assert scores(labels) == [("one", 1.0, 0.0), ("two", 0.5, 0.5)]
    given = read(tmp_path, judged, columns={"win_rate": "win_rate"}).given
    assert given is not None
    assert given.tolist() == [0.7, 0.4]


def test_pairs_of_scores_are_read_row_by_row(tmp_path: Path) -> None:
    table = pl.DataFrame({"text": ["one", "one"], "s": [10, 8], "w": [5, 8]})
    columns = {"prompt": "text", "strong_score": "s", "weak_score": "w"}
    labels = read(tmp_path, table, columns=columns, largest_score=10)
    assert scores(labels) == [("one", 1.0, 0.5), ("one", 0.8, 0.8)]
    with pytest.raises(DataError, match=r"scores must lie in 0\.\.1, got 10"):
        read(tmp_path, table, columns=columns)


def test_graded_answers_are_read_by_prompt(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {"prompt": ["one", "one", "two", "two"], "model": ["big", "small"] * 2, "score": [True, False, True, True]}
    )
    assert scores(read(tmp_path, table, strong="big", weak="small")) == [("one", 1.0, 0.0), ("two", 1.0, 1.0)]
    with pytest.raises(ConfigError, match="name the pair"):
        read(tmp_path, table)


def test_labels_have_a_digest_of_what_decides(tmp_path: Path) -> None:
    same, other = read(tmp_path, BATTLES.with_columns(judge=pl.lit("j"))), read(tmp_path, BATTLES.head(2))
    assert read(tmp_path, BATTLES).sha256 == same.sha256 != other.sha256


@pytest.mark.parametrize("rates", [[0.1, None, 0.3, 0.4], [0.1, 1.2, 0.3, 0.4]])
def test_a_win_rate_column_holds_win_rates(tmp_path: Path, rates: list[float | None]) -> None:
    with pytest.raises(DataError, match=r"rate must hold a win rate in \[0, 1\] for every labelled prompt"):
        read(tmp_path, BATTLES.with_columns(rate=pl.Series(rates)), columns={"win_rate": "rate"})
    with pytest.raises(DataError, match="columns maps win_rate to 'rates', but the table has"):
        read(tmp_path, BATTLES, columns={"win_rate": "rates"})


def test_a_missing_table_and_an_unknown_layout_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"nothing\.csv is missing"):
        read_labels(config.LabelsSection(path="nothing.csv"), tmp_path)
    with pytest.raises(DataError, match="are of no known layout"):
        read(tmp_path, pl.DataFrame({"question": ["one"]}))


def test_win_rates_are_those_of_their_prompts(tmp_path: Path) -> None:
    table = pl.concat([BATTLES, BATTLES.reverse()]).with_columns(
        rate=pl.Series([0.1, 0.2, 0.3, 0.4, 0.4, 0.3, 0.2, 0.1])
    )
    labels = read(tmp_path, table, columns={"win_rate": "rate"})
    assert_series_equal(labels.rows["prompt"], pl.Series("prompt", ["one", "two", "three"]))
    assert labels.given is not None
    assert labels.given == pytest.approx([0.1, 0.2, 0.3])
