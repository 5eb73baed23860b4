"""Lock held, read-only, full: each stops the run with one message, and nothing already paid for is lost."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.desk import Desk, assert_told, nightroute, questions
from tests.e2e.harness import ROOT, Ended, Server


def test_a_run_that_another_process_holds_is_75(desk: Desk) -> None:
    desk.put(questions(2))
    desk.write_config()
    desk.run_dir.mkdir()
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); f.write('process 7 on host'); \
f.flush(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["python3", "-c", script, str(desk.run_dir / "run.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        for command in ("run", "plan"):
            assert_told(
                desk.run(command=command), 75, f"run {desk.run_dir} is locked by process 7 on host; wait for it or stop"
            )
        holder.stdin.close()
    with (desk.run_dir / "run.lock").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("key", ["output__path", "run_dir"])
def test_a_path_below_a_file_is_78_before_a_call_is_made(desk: Desk, key: str) -> None:
    desk.put(questions(2))
    (desk.folder / "note").touch()
    desk.write_config(**{key: "note/below"})
    assert_told(desk.run(), 78, "is a file or lies below one; name a folder")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own, where this user may mount one."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False, text=True
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
@pytest.mark.parametrize("key", ["output__path", "run_dir"])
def test_a_read_only_disk_is_75_before_a_call_is_made(desk: Desk, key: str) -> None:
    desk.put(questions(2))
    with mounted(desk.folder / "disk", "ro,size=1m"):
        desk.write_config(**{key: "disk/below"})
        assert_told(desk.run(), 75, f"{desk.folder}/disk/below", "Read-only file system", "free or mend the disk")
    assert not desk.run_dir.joinpath("ledger", "ledger.sqlite").exists()


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_a_disk_that_fills_up_keeps_what_was_paid_for(night: Desk, sandbox: Server) -> None:
    night.put(questions(60))
    with mounted(night.folder / "disk", "size=6m") as disk:
        night.write_config(
            run_dir="disk/run",
            dispatch__min_free_disk_mb=0,
            models__strong__max_in_flight=2,
            models__weak__max_in_flight=2,
        )
        assert night.run(command="plan").exit_code == 0
        ballast = disk / "ballast"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        ballast.write_bytes(bytes(max(0, free - 120_000)))
        since = sandbox.mark()
        assert_told(night.run(), 75, "free", "resume the run")
        asked = sandbox.settled(since)
        assert 0 < asked.height < 60
        status = nightroute("status", str(disk / "run"))
        assert status.exit_code == 0
        ballast.unlink()
        ended = nightroute("resume", str(disk / "run"))
        assert ended.exit_code == 0, ended.stderr
        assert ended.summary["rows"]["ok"] == 60
        # At most the calls in flight when the disk was full, two a model, were paid for without being stored.
        assert 60 <= sandbox.settled(since).height <= 64


def test_a_disk_with_too_little_room_stops_before_the_first_call(night: Desk, sandbox: Server) -> None:
    night.put(questions(2))
    night.write_config(dispatch__min_free_disk_mb=10**9)
    since = sandbox.mark()
    assert_told(night.run(), 75, "MB are free on the disk of the run folder", "free some space, then resume the run")
    assert sandbox.received(since) == 0
    night.write_config()
    assert night.run().exit_code == 0


def test_a_write_that_fails_while_publishing_keeps_the_answers(night: Desk, sandbox: Server) -> None:
    """A limit on file size is a full disk that needs no mount: the ledger fits, the published table does not."""
    night.put(questions(20, note=[os.urandom(20_000).hex() for _ in range(20)]))
    night.write_config()
    since = sandbox.mark()
    limited = [
        "bash",
        "-c",
        'ulimit -f 300; exec "$@"',
        "bash",
        sys.executable,
        "-m",
        "jobs",
        "run",
        "-c",
        str(night.job_file),
    ]
    ended = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    told = Ended(ended.returncode, json.loads(ended.stdout.splitlines()[-1]), ended.stderr)
    assert_told(told, 75, "cannot be written: ", "File too large", "then run the same command again")
    assert not night.output.exists()
    assert sandbox.received(since) == 20
    assert night.run().exit_code == 0
    assert sandbox.received(since) == 20
    assert set(night.published()["status"]) == {"ok"}


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_an_output_disk_that_is_too_small_is_left_clean(night: Desk, sandbox: Server) -> None:
    night.put(questions(20, note=[os.urandom(20_000).hex() for _ in range(20)]))
    since = sandbox.mark()
    with mounted(night.folder / "disk", "size=200k") as disk:
        night.write_config(output__path="disk/answers")
        assert_told(night.run(), 75, f"{disk}/answers cannot be written", "No space left", "choose another folder")
        assert not list(disk.iterdir())
    night.write_config()
    assert night.run().exit_code == 0
    assert sandbox.received(since) == 20
