import errno
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from jobs.rundir import (
    RunDir,
    at_work,
    is_locked,
    locked,
    move,
    read_json,
    storing,
    write_atomic,
    write_json,
    write_parquet,
)
from routing.errors import ConfigError, InputMissingError, StorageError, TryLaterError
from schemas.run import Part

PART = Part(number=1, file=0, start=10, rows=5)


def test_a_write_is_whole_or_not_there(tmp_path: Path) -> None:
    target, staging = tmp_path / "out" / "x.txt", tmp_path / "staging"
    write_atomic(target, lambda draft: draft.write_text("first", encoding="utf-8"), staging)

    def half(draft: Path) -> None:
        draft.write_text("sec", encoding="utf-8")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match=r"x\.txt cannot be written: No space left on device; free or mend the disk"):
        write_atomic(target, half, staging)
    assert target.read_text(encoding="utf-8") == "first"
    assert list(target.parent.iterdir()) == [target]


def test_tables_and_records_come_back(tmp_path: Path) -> None:
    table = pl.DataFrame({"a": [1, None], "b": ["x", "é"]})
    write_parquet(tmp_path / "t.parquet", table, tmp_path / "staging")
    write_json(tmp_path / "p.json", PART, tmp_path / "staging")
    assert pl.read_parquet(tmp_path / "t.parquet").equals(table)
    assert read_json(Part, tmp_path / "p.json") == PART
    assert not list((tmp_path / "staging").iterdir())


def test_a_record_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"is .* the folder of a run that has been started"):
        read_json(Part, tmp_path / "p.json")
    for text in ("", '{"number": 1}', '{"number": 1, "file": 0, "start": 1, "rows": 1, "colour": "red"}'):
        (tmp_path / "p.json").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="another version wrote it, or it is damaged; start a new run folder"):
            read_json(Part, tmp_path / "p.json")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (pl.exceptions.ComputeError("disk said no\nmore"), "disk said no"),
    ],
)
def test_what_the_disk_says_is_one_message(error: Exception, reason: str) -> None:
    with pytest.raises(StorageError) as caught, storing(Path("/run")):
        raise error
    assert str(caught.value).startswith(f"/run cannot be written: {reason}")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [FileExistsError, NotADirectoryError])
def test_a_file_where_a_folder_is_needed_is_for_the_config(error: type[OSError]) -> None:
    with pytest.raises(ConfigError) as caught, storing(Path("/run")):
        raise error(errno.EEXIST, "File exists", "/a/b")
    assert str(caught.value) == "/run cannot be written: /a/b is a file or lies below one; name a folder"


def test_staging_is_emptied_once_the_folder_has_been_ours(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.staging.mkdir(parents=True)
    (run.staging / "theirs.txt").touch()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"staging holds files that nightroute did not write"), at_work(run):
            pass
        assert (run.staging / "theirs.txt").exists()
    (run.staging / "theirs.txt").unlink()
    with at_work(run):
        run.staging.mkdir(exist_ok=True)
        (run.staging / "half-written").touch()
    with at_work(run):
        assert not run.staging.exists()


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), storing(Path("/run")):
        _ = 1 / 0


def test_one_process_at_a_time_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.prepare()
    assert not is_locked(run)
    script = "import sys; from pathlib import Path; from jobs.rundir import RunDir, locked\n\
with locked(RunDir(Path(sys.argv[1]))): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run.root)],
        cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_locked(run)
        with (
            pytest.raises(TryLaterError, match=f"is locked by process {holder.pid} on .*; wait for it or stop it"),
            locked(run),
        ):
            raise AssertionError("two processes hold the lock")
        holder.kill()
        holder.communicate()
    with locked(run):
        assert is_locked(run)
        assert run.lock.read_text(encoding="utf-8").startswith(f"process {os.getpid()} on ")
    assert not is_locked(run)


def test_a_rename_across_disks_copies_first(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second disk here")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x").write_text("x", encoding="utf-8")
    target = other / f"nightroute-test-{os.getpid()}"
    try:
        move(folder, target)
        assert (target / "x").read_text(encoding="utf-8") == "x"
        assert not folder.exists()
        move(target, folder)
        assert (folder / "x").read_text(encoding="utf-8") == "x"
        move(folder / "x", target)
        assert target.read_text(encoding="utf-8") == "x"
    finally:
        target.unlink(missing_ok=True)
