"""`nightroute train` from tables to a router that scores texts, for every kind but the static one."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `train`")

from jobs import fitting, train_router  # noqa: E402
from jobs.train import read_config, train  # noqa: E402
from jobs.training import TrainSummary  # noqa: E402
from routing.artifact import file_sha256, load  # noqa: E402
from routing.errors import ArtifactError, ConfigError, DataError, InputMissingError  # noqa: E402
from routing.routers import OnnxRouter  # noqa: E402
from routing.training import loop  # noqa: E402
from routing.training.dataset import TrainingSet  # noqa: E402
from tests.unit.training import router_world, tiny  # noqa: E402

LEARNERS = ("linear", "ngram", "cluster", "sw", "mf", "bert")
STEPWISE = ("linear", "ngram", "cluster", "mf", "bert")
"""Kinds that report progress, so that there is a picture of it."""


class Made(NamedTuple):
    """A training run, with what it was fitted on and what it fitted."""

    folder: Path
    config: Path
    summary: TrainSummary
    dataset: TrainingSet
    fitted: fitting.Fitted


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("world")
    router_world.write(folder, encoder_folder)
    tiny.save(folder / "base", tiny.bert())
    return folder


@pytest.fixture(scope="module")
def make(world: Path) -> Callable[[str], Made]:
    """Train a kind, once a module."""
    done: dict[str, Made] = {}

    def made(kind: str) -> Made:
        if kind in done:
            return done[kind]
        seen: list[tuple[TrainingSet, fitting.Fitted]] = []

        def remembered(config: Any, dataset: TrainingSet, **rest: Any) -> fitting.Fitted:
            seen.append((dataset, fitting.fit_router(config, dataset, **rest)))
            return seen[0][1]

        path = router_world.config(world, kind, name=kind)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_router, "fit_router", remembered)
            summary = train(path, output=world / "routers" / kind, environment={})
        done[kind] = Made(summary.folder, path, summary, *seen[0])
        return done[kind]

    return made


def _texts(world: Path) -> list[str]:
    exam = pl.read_parquet(world / "data" / "exam.parquet")["prompt"].unique(maintain_order=True).to_list()
    return [*exam, "", "a word that nobody knows", "HELLO w1", " ".join(f"w{i % 80}" for i in range(500))]


@pytest.mark.parametrize("kind", router_world.KINDS)
def test_the_loaded_artifact_says_what_the_fitted_router_says(
    kind: str, world: Path, make: Callable[[str], Made]
) -> None:
    made = make(kind)
    artifact = load(made.folder)
    assert artifact.card == made.summary.card
    assert artifact.card.kind == kind
    texts = _texts(world)
    router = made.fitted.router
    expected = router.win_rates(router.text.tokens(texts))
    found = OnnxRouter(artifact).win_rates(texts).win_rate
    if artifact.card.quantization is None:
        assert found == pytest.approx(expected, abs=1e-5)
    else:
        assert np.abs(found - expected).max() <= 2 * artifact.card.quantization.max_error + 1e-5
    assert ((found >= 0) & (found <= 1)).all()
    assert (len(set(found)) > 1) == (kind != "constant")


@pytest.mark.parametrize("kind", router_world.KINDS)
def test_the_card_is_true(kind: str, world: Path, make: Callable[[str], Made]) -> None:
    made = make(kind)
    card, dataset, router = made.summary.card, made.dataset, made.fitted.router
    files = {path.name: file_sha256(path) for path in made.folder.iterdir() if path.name != "router.json"}
    assert card.files == files
    assert set(files) - {"training.png"} == {"model.onnx", "tokenizer.json"}
    assert ("training.png" in files) == (kind in STEPWISE)
    assert card.config_sha256 == read_config(made.config)[1]
    assert (card.seed, card.opset, card.licence, card.limits) == (3, 18, "Apache-2.0", ["none"])
    assert {"polars", "torch", "onnxruntime"} <= set(card.versions)
    assert card.lowercase_prompts

    assert card.parity_prompts >= 1_000
    assert 0 <= card.parity_mean_error <= card.parity_max_error <= 1e-4
    assert (card.quantization is not None) == (kind == "bert")
    quantiles = np.array(card.score_quantiles)
    assert quantiles.shape == (101,)
    assert (np.diff(quantiles) >= 0).all()
    texts = dataset.held_out_labels["prompt"].to_list()
    held_out = OnnxRouter(load(made.folder)).win_rates(texts).win_rate
    assert quantiles[[0, 50, 100]] == pytest.approx(np.quantile(held_out, [0, 0.5, 1]), abs=1e-4)

    # The exam's own prompt, and others that the tiny encoder takes for one of the exam.
    data = world / "data"
    battles, golden = pl.read_parquet(data / "battles.parquet"), pl.read_csv(data / "golden.csv")["prompt"]
    given = pl.concat([battles["prompt"], golden]).to_frame()
    used = pl.concat([dataset.battles, dataset.held_out_battles])
    near = given.filter(pl.col("prompt") != "too short").join(used, on="prompt", how="anti")
    assert not set(pl.read_parquet(data / "exam.parquet")["prompt"]) & set(used["prompt"])
    assert router_world.LEAKED <= len(near) <= 30
    assert card.dropped == router_world.DROPPED | {"contaminated": router_world.OVERLAPS + len(near)}
    assert made.summary.contaminated == near["prompt"].n_unique()
    what, fitted = "battles", dataset.battles["prompt"]
    if kind not in ("sw", "mf"):
        what, fitted = "labelled prompts", dataset.labels["prompt"]
    graded = fitted.is_in(golden.implode())
    assert [(part.name, part.rows, part.sha256, part.licence) for part in card.training] == [
        (f"made ({what}, battles.parquet)", int((~graded).sum()), file_sha256(data / "battles.parquet"), "made up"),
        (f"made ({what}, golden.csv)", int(graded.sum()), file_sha256(data / "golden.csv"), "made up as well"),
    ]
    assert len(used) == len(given) - sum(card.dropped.values())

    metrics = {(metric.benchmark, metric.name): metric for metric in card.metrics}
    assert {name for _, name in metrics} >= {"apgr", "apgr_random", "apgr_length", "cpt50", "cpt80", "similarity"}
    assert metrics["held_out", "apgr"].n == len(dataset.held_out_labels)
    assert metrics["exam", "apgr"].n == 300
    assert "zero-shot" in metrics["exam", "apgr"].note
    assert 0 < metrics["exam", "similarity"].value <= 1
    assert router.text.truncation == card.truncation


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_router_that_can_learn_finds_the_hard_prompts(kind: str, make: Callable[[str], Made]) -> None:
    apgr = next(m for m in make(kind).summary.card.metrics if (m.benchmark, m.name) == ("exam", "apgr"))
    assert apgr.low > 0.55


def test_cards_name_the_frame_and_the_notes_of_their_kind(make: Callable[[str], Made]) -> None:
    special = {token: tiny.WORDS.index(token) for token in ("[CLS]", "[SEP]")}
    found = make("bert").summary.card
    assert (found.prefix_tokens, found.suffix_tokens) == ([special["[CLS]"]], [special["[SEP]"]])
    assert (found.truncation.head, found.truncation.tail) == (30, 8)
    encoded = make("mf").summary.card
    assert len(encoded.prefix_tokens) == len(encoded.suffix_tokens) == 1
    static = make("linear").summary.card
    assert static.prefix_tokens == static.suffix_tokens == []
    assert {"decay", "prompts"} <= set(static.notes)
    assert static.notes["prompts"] == len(make("linear").dataset.labels)
    weighted = make("sw").summary.card.notes
    assert weighted["models"] == 6
    assert weighted["prototypes"] == 200
    assert make("random").summary.card.notes == {}


def test_the_summary_is_one_json_record(make: Callable[[str], Made]) -> None:
    made = make("cluster")
    record = made.summary.record()
    assert (record["job"], record["router"], record["kind"]) == ("train", "tiny", "cluster")
    assert (record["folder"], record["contaminated"]) == (str(made.folder), made.summary.contaminated)
    assert record["files"] == made.summary.card.files


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", [kind for kind in router_world.KINDS if kind != "bert"])
def test_the_same_config_gives_the_same_bytes(
    kind: str, world: Path, make: Callable[[str], Made], tmp_path: Path
) -> None:
    made = make(kind)
    train(made.config, output=tmp_path / "again", environment={})
    assert _digests(tmp_path / "again") == _digests(made.folder)


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_bytes(
    make: Callable[[str], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, steps = make("mf"), list[int]()

    @contextmanager
    def killed_after_the_second_validation(title: str) -> Iterator[Callable[[Any], None]]:
        def show(progress: Any) -> None:
            steps.append(progress.step)
            if progress.step > 20:
                raise KilledError(title)

        yield show

    kept = tmp_path / "checkpoints"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit_bar", killed_after_the_second_validation)
        with pytest.raises(KilledError):
            train(made.config, output=tmp_path / "router", checkpoints=kept, environment={})
    assert not (tmp_path / "router").exists()
    assert list(kept.rglob("*.pt"))

    taken = list[int]()
    real = loop._step

    def counted(*given: Any) -> float:
        taken.append(1)
        return real(*given)

    monkeypatch.setattr(loop, "_step", counted)
    train(made.config, output=tmp_path / "router", checkpoints=kept, environment={})
    assert len(taken) == len(made.fitted.history) - 20
    assert _digests(tmp_path / "router") == _digests(made.folder)


@pytest.fixture
def small(tmp_path: Path, world: Path) -> Path:
    """The same tables, to be spoilt."""
    (tmp_path / "data").mkdir()
    for path in (world / "data").iterdir():
        (tmp_path / "data" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "common.toml").write_text((world / "common.toml").read_text())
    return tmp_path


def _refused(folder: Path, error: type[Exception], message: str, *, kind: str = "constant", extra: str = "") -> None:
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(error, match=message):
        train(router_world.config(folder, kind, extra=extra), environment={})
    assert {path.name for path in folder.iterdir()} - before <= {"config.toml"}


def _spoil(folder: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = folder / "data" / name
    change(pl.read_parquet(path)).write_parquet(path)


def _only_battles(folder: Path) -> None:
    text = (folder / "common.toml").read_text()
    start, end = text.index('[[sources]]\npath = "golden.csv"'), text.index("[[evaluation]]")
    (folder / "common.toml").write_text(text[:start] + text[end:])


def _replace(folder: Path, old: str, new: str) -> None:
    path = folder / "common.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_unknown_winners_are_named(small: Path) -> None:
    _spoil(small, "battles.parquet", lambda table: table.with_columns(winner=pl.lit("the first one")))
    _refused(
        small, DataError, r"battles: winner \['the first one'\] is unknown, expected \['model_a'.*; name what they"
    )


def test_a_missing_table_is_named(small: Path) -> None:
    (small / "data" / "golden.csv").unlink()
    _refused(small, InputMissingError, r"table .*golden\.csv is missing; check the paths in the config's sources")


def test_a_missing_column_is_named(small: Path) -> None:
    _spoil(small, "battles.parquet", lambda table: table.drop("winner"))
    _refused(small, DataError, r"look most like the layout 'battles', but \['winner'\] are missing; rename the columns")


def test_a_missing_model_of_an_evaluation_set_is_named(small: Path) -> None:
    _replace(small, '"the-weak"', '"gpt-weak"')
    _refused(small, DataError, r"exam: no rows of model \['gpt-weak'\]; name the models of this file in the config's")


def test_a_source_that_filters_leave_empty_says_why(small: Path) -> None:
    _replace(small, '"not_ours"', '"not_ours", "made"')
    _refused(small, DataError, r"source 'battles': no battle is left of (\d+) rows \(\1 excluded\); check exclusions")


def test_labels_of_one_class_teach_nothing(small: Path) -> None:
    _only_battles(small)
    strong = pl.when(pl.col("model_a") < pl.col("model_b")).then(pl.lit("model_a")).otherwise(pl.lit("model_b"))
    _spoil(small, "battles.parquet", lambda table: table.with_columns(winner=strong))
    _refused(
        small, DataError, r"training side has \d+ labels, all 1 \(1 = strong wins, .*add battles that the other side"
    )


def test_a_pair_without_battles_is_named(small: Path) -> None:
    _only_battles(small)
    nobody = '[pair]\nstrong = "nobody"\nweak = "w1"\nstrong_models = {}\nweak_models = []\n'
    start, end = '[pair]\nstrong = "s1"\nweak = "w1"\nstrong_models = ["s2"]\nweak_models = ["w2"]\n', ""
    _replace(small, start, end + nobody.format("[]"))
    _refused(
        small, DataError, r"no battle is between the strong models \['nobody'\] and the weak models \['w1'\]; name"
    )

    # Others can stand for it in the labels, but not where the router names models.
    _replace(small, nobody.format("[]"), nobody.format('["s1", "s2"]'))
    _refused(
        small, DataError, r"models \['nobody'\] have fewer than 5 battles .*; name other models in \[pair\]", kind="sw"
    )
    _refused(
        small, DataError, r"model 'nobody' is not among the 6 models with battles .*: name one of them in", kind="mf"
    )


def test_too_few_prompts_and_a_folder_of_something_else_are_refused_before_the_fit(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fitted(*given: object, **named: object) -> None:
        raise AssertionError("fitted for nothing")

    monkeypatch.setattr(train_router, "fit_router", fitted)
    (small / "router").mkdir()
    _refused(small, ArtifactError, r"router exists and holds no router\.json; it is not replaced: name another output")
    (small / "router").rmdir()
    _only_battles(small)
    _few(small, battles=60, exam=4)
    _refused(small, DataError, r"checked on at least 1000 real prompts, got \d{3}; use more data, a larger split")


def test_a_few_hundred_prompts_are_checked_with_beginnings_of_themselves(small: Path) -> None:
    _only_battles(small)
    _few(small, battles=500, exam=50)
    found = train(router_world.config(small, "length"), environment={})
    assert found.card.parity_prompts == 1_000
    assert sum(part.rows for part in found.card.training) < 500


def _strong_wins(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(score=(pl.col("model") == "the-strong").cast(pl.Float64))


def _few(folder: Path, *, battles: int, exam: int) -> None:
    _spoil(folder, "battles.parquet", lambda table: table.head(battles))
    _spoil(folder, "exam.parquet", lambda table: _strong_wins(table.sort("prompt").head(2 * exam)))


def test_max_prompts_bounds_the_labels_and_not_the_battles_between_others(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fitted(config: object, dataset: TrainingSet, **named: object) -> None:
        seen.append(dataset)
        raise KilledError

    monkeypatch.setattr(train_router, "fit_router", fitted)
    for extra in ("", "[data]\nmax_prompts = 200\n", "[data]\nmax_prompts = 100000\n"):
        with pytest.raises(KilledError):
            train(router_world.config(small, "constant", extra=extra), environment={})
    every, few, more = seen
    assert len(few.labels) + len(few.held_out_labels) == 200
    assert more.battles.equals(every.battles)
    labelled = pl.concat([every.labels, every.held_out_labels])
    unlabelled = every.battles.join(labelled, on="prompt", how="anti")
    assert len(few.battles.join(labelled, on="prompt", how="anti")) == len(unlabelled) > 0


def test_a_diverging_fit_says_what_to_lower(small: Path) -> None:
    path = router_world.config(small, "mf")
    path.write_text(path.read_text().replace("learning_rate = 0.02", "learning_rate = 1e30"))
    with pytest.raises(ConfigError, match=r"training diverged at step .*; lower learning_rate"):
        train(path, environment={})
    assert not (small / "router").exists()
