"""The config of `nightroute label`: that of a night without its split, with a sample, and a judge or a reference."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator

from jobs.config import Destination, Model, TableConfig, TableJob
from jobs.config_file import Section, load_config
from routing.errors import ConfigError, InputMissingError
from routing.golden import Match
from routing.labelling import Allocation, JudgePrompt

BUILTIN = "builtin:"
JUDGES = Path(__file__).resolve().parents[1] / "routing" / "judges"
"""Templates that are shipped."""


class Sample(Section):
    """Which queries to label."""

    size: int = Field(ge=1)
    """Queries to draw; all where the table has fewer."""
    seed: int = 0
    """The same seed draws the same queries; a larger size keeps them."""
    stratify: str | None = None
    """Column of your table whose values are drawn from apart."""
    allocation: Allocation = "proportional"
    """With `stratify`: `proportional` to the table, or `equal` numbers of each value."""


class LabelModels(Section):
    """The pair, and who judges it."""

    strong: Model
    weak: Model
    judge: Model | None = None
    """Compares the answers; not needed where [golden] has a column."""


class Judge(Section):
    """What the judge is told: files."""

    template: str = "builtin:pair"
    """User message: a file with {question}, {answer_a}, {answer_b}, or `builtin:NAME`."""
    system: str | None = "builtin:pair-system"
    """System message: a file, or `builtin:NAME`; "" sends none."""


class Golden(Section):
    """A reference to compare both answers with, instead of a judge."""

    column: str | None = None
    """Column of your table that holds the right answer."""
    match: Match = "exact"
    """`exact`, `numeric` (the last number), or `multiple_choice` (the letter)."""


class LabelOutput(Destination):
    """Where the battle table goes."""

    @model_validator(mode="after")
    def _is_a_file(self) -> "LabelOutput":
        if not self.path.endswith((".parquet", ".pq")):
            raise ValueError(f"path must name a Parquet file such as labels.parquet, got {self.path!r}")
        return self


class LabelConfig(TableConfig):
    """A labelling job."""

    source: str = Field("own_traffic", min_length=1)
    """Name of these labels among the sources of a training config."""
    sample: Sample
    models: LabelModels
    judge: Judge = Judge()
    golden: Golden = Golden()
    output: LabelOutput

    @model_validator(mode="after")
    def _can_label(self) -> "LabelConfig":
        models = self.models
        if models.strong.name == models.weak.name:
            raise ValueError(
                f"models.strong and models.weak are both called {models.strong.name!r}; a battle needs two names"
            )
        if models.judge is None and self.golden.column is None:
            raise ValueError("nobody labels: add [models.judge], or golden.column with the right answers")
        by_name: dict[str, Model] = {}
        for model in self.asked().values():
            other = by_name.setdefault(model.name, model)
            if (other.base_url, other.provider) != (model.base_url, model.provider):
                raise ValueError(
                    f"two models are called {model.name!r} but answer at {other.base_url} and {model.base_url}; "
                    "their bills could not be told apart: give them one base_url and provider, or two names"
                )
        return self

    def asked(self) -> dict[str, Model]:
        """Role -> model that is called: a golden column goes before a judge."""
        found = {"strong": self.models.strong, "weak": self.models.weak}
        if self.golden.column is None and self.models.judge is not None:
            found["judge"] = self.models.judge
        return found


@dataclass(frozen=True, slots=True)
class LabelJob(TableJob[LabelConfig]):
    """A labelling job."""

    @property
    def output(self) -> Path:
        """The battle table."""
        return self.path(self.config.output.path)

    @property
    def date_key(self) -> str | None:
        """A file has no folder name that could hold the date."""
        return None

    def judge_prompt(self) -> JudgePrompt | None:
        """Read the templates; null where no judge is asked.

        Raises:
            InputMissingError: a file is not there.
            ConfigError: it cannot be used as a template.
        """
        if "judge" not in self.config.asked():
            return None
        section = self.config.judge
        system = _read(self, section.system, key="judge.system") if section.system else None
        prompt = JudgePrompt(_read(self, section.template, key="judge.template"), system)
        prompt.check(where=section.template)
        return prompt


def load_label(
    path: Path, *, overrides: Sequence[str] = (), golden: str | None = None, date: str | None = None
) -> LabelJob:
    """Read a labelling config.

    Args:
        path: TOML file.
        overrides: As for `jobs.config.load_job`.
        golden: Column with the right answers, as in `--golden`; goes before the config's.
        date: Partition to draw from, as in `--date`.

    Raises:
        NightrouteError: as `jobs.config.load_job`.
    """
    told = [*overrides, *([] if golden is None else [f"golden.column={json.dumps(golden)}"])]
    config = load_config(LabelConfig, path, overrides=told, date=date)
    return LabelJob(config, path.resolve().parent, date)


def text_sha256(text: str | None) -> str | None:
    """Digest of a template."""
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _read(job: LabelJob, name: str, *, key: str) -> str:
    path = job.path(name)
    if name.startswith(BUILTIN):
        shipped = {f"{BUILTIN}{file.stem}": file for file in sorted(JUDGES.glob("*.txt"))}
        if name not in shipped:  # looked up, not joined: `builtin:../x` names nothing
            raise ConfigError(f"{key} {name!r} is not shipped with nightroute; shipped are {list(shipped)}")
        path = shipped[name]
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputMissingError(
            f"{key}: {path} cannot be read ({error.strerror}); name a text file, or one of the shipped templates"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: {path} is no UTF-8 text; save it as UTF-8") from error
