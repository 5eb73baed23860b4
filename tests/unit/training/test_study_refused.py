"""`nightroute study` where it cannot work: it says so before anything is fitted."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `train`")

from jobs import study_cells  # noqa: E402
from jobs.rundir import RunDir, locked  # noqa: E402
from jobs.study import study  # noqa: E402
from routing.errors import ConfigError, DataError, InputMissingError, TryLaterError  # noqa: E402
from tests.unit.training import study_world  # noqa: E402

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, encoder_folder: Path) -> Path:
    study_world.write(tmp_path, encoder_folder)
    return tmp_path


def test_a_study_that_cannot_work_is_told_before_anything_is_fitted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object, **named: object) -> None:
        raise AssertionError("fitted for nothing")

    monkeypatch.setattr(study_cells, "fit_router", never)

    def refused(
        error: type[Exception], message: str, *changes: tuple[str, str], arms: tuple[str, ...] = ("preferences",)
    ) -> None:
        path = study_world.config(folder, {"linear": ""}, benchmarks=("samples",), arms=arms)
        for old, new in changes:
            study_world.replace(path, old, new)
        with pytest.raises(error, match=message):
            study(path, output=folder / "out", environment={}, now=NOW)
        assert not (folder / "out" / "study.json").exists()

    refused(
        ConfigError,
        r"arm 'preferences' names the sources \['fights'\]; config .*linear.toml has \['battles', 'made'\]",
        ('"battles"', '"fights"'),
    )
    refused(
        ConfigError,
        r"linear.toml \(preferences\):\n  fit.fold: unknown key; did you mean 'folds'\?",
        ('config = "linear.toml"', 'config = "linear.toml"\nper_arm = { preferences = { fit = { fold = 3 } } }'),
    )
    refused(ConfigError, r"config .*nothing.toml cannot be read", ('config = "linear.toml"', 'config = "nothing.toml"'))
    refused(
        DataError,
        r"330 labelled prompts of 330 leave none",
        ("sizes = [60, 150]", "sizes = [60, 330]"),
        arms=("in-domain",),
    )
    refused(InputMissingError, r"table .*quiz.parquet is missing", ("exam.parquet", "quiz.parquet"))
    refused(
        DataError,
        r"the-weak scores .*, the-strong .*; APGR needs a strong model that is better",
        ('strong = "the-strong"\nweak = "the-weak"', 'strong = "the-weak"\nweak = "the-strong"'),
    )
    (folder / "static.toml").write_text(
        (Path(__file__).parents[3] / "examples" / "train" / "static-mf.toml").read_text()
    )
    refused(
        ConfigError,
        r"static.toml: static_mf has a recipe of its own and is not studied; use mf",
        ('config = "linear.toml"', 'config = "static.toml"'),
    )
    few = "per_arm = { preferences = { data = { max_prompts = 20 } } }"
    refused(
        ConfigError,
        r"linear.toml: data.max_prompts would draw from labels too; use that of the sources",
        ('config = "linear.toml"', f'config = "linear.toml"\n{few}'),
    )
    (folder / "data" / "battles.parquet").unlink()
    refused(
        InputMissingError, r"tables \['battles.parquet'\] of config .*linear.toml are not in .*data; mend the paths"
    )


def test_two_studies_do_not_share_a_folder(folder: Path) -> None:
    config = study_world.config(folder, {"linear": ""}, benchmarks=("samples",), arms=("preferences",))
    with locked(RunDir(folder)), pytest.raises(TryLaterError, match="is locked by process"):
        study(config, output=folder, environment={}, now=NOW)
