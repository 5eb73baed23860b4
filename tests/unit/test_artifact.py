import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from routing.artifact import BUILTIN, load, locate
from routing.errors import ArtifactError
from tests.fakes import save_adding_router, write_card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_adding_router(tmp_path / "router")


def edit_card(folder: Path, **fields: Any) -> None:
    path = folder / "router.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_an_artifact_is_identified_by_its_card(folder: Path) -> None:
    artifact = load(folder)
    assert artifact.sha256 == hashlib.sha256((folder / "router.json").read_bytes()).hexdigest()
    assert artifact.card.name == "adding"
    assert (artifact.graph, artifact.tokenizer) == (folder / "model.onnx", folder / "tokenizer.json")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_file_is_refused_with_both_digests(folder: Path, name: str) -> None:
    wanted = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    with (folder / name).open("ab") as file:
        file.write(b" ")
    got = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    with pytest.raises(ArtifactError, match=f"sha256 {got[:12]}.*its card says {wanted[:12]}.*restore the artifact"):
        load(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name} cannot be read \(No such file.*restore the artifact folder"):
        load(folder)


def test_every_file_that_the_card_names_is_checked(folder: Path) -> None:
    files = {**load(folder).card.files, "vocabulary.txt": "0" * 64}
    write_card(folder, files=files)
    with pytest.raises(ArtifactError, match=r"vocabulary\.txt cannot be read"):
        load(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_card_without_a_digest_is_refused(folder: Path, name: str) -> None:
    files = dict(load(folder).card.files)
    del files[name]
    write_card(folder, files=files)
    with pytest.raises(ArtifactError, match=f"lists no digest for {name}"):
        load(folder)


def test_a_folder_without_a_card_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"no readable router\.json \(No such file.*expected a folder with model\.onnx"
    ):
        load(tmp_path)


def test_a_card_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "router.json").write_text('{"name": "add')
    with pytest.raises(ArtifactError, match=r"not a card this version reads: .*Invalid JSON"):
        load(folder)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format_version": 2}, "format_version: Input should be 1"),
        ({"truncation": {"head": 0, "tail": 2}}, r"truncation\.head: Input should be greater than or equal to 1"),
        ({"kind": "oracle"}, "kind: Input should be 'mf'"),
        ({"lisence": "MIT"}, "lisence: Extra inputs are not permitted"),
    ],
)
def test_a_damaged_card_is_refused_with_the_place(folder: Path, fields: dict[str, Any], said: str) -> None:
    edit_card(folder, **fields)
    with pytest.raises(ArtifactError, match=f"{said}.*train or export the router again"):
        load(folder)


def test_names_are_paths_unless_they_say_builtin() -> None:
    assert locate("routers/mine", relative_to=Path("/config")) == Path("/config/routers/mine")
    assert locate("/abs/mine", relative_to=Path("/config")) == Path("/abs/mine")
    assert locate("builtin:static-mf", relative_to=Path("/config")) == BUILTIN / "static-mf"


def test_an_unknown_builtin_lists_those_that_are_shipped() -> None:
    with pytest.raises(ArtifactError, match=r"'builtin:mf' is not shipped.*'builtin:static-mf'.*or give a path"):
        locate("builtin:mf", relative_to=Path())


def test_a_builtin_name_cannot_leave_the_folder() -> None:
    with pytest.raises(ArtifactError, match="is not shipped"):
        locate("builtin:../training", relative_to=Path())
