"""A run folder on disk: layout, lock, atomic writes (DESIGN section 3)."""

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl
from pydantic import BaseModel, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from routing.errors import ConfigError, InputMissingError, StorageError, TryLaterError

R = TypeVar("R", bound=BaseModel)

PARQUET_LEVEL = 3
"""zstd level of every table written: higher ones cost more time than they save space on text."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths inside a run folder."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the one process that works on this run."""
        return self.root / "run.lock"

    @property
    def config(self) -> Path:
        """The effective config, without secrets: what `resume` starts from."""
        return self.root / "config.json"

    @property
    def plan(self) -> Path:
        """Parts, input digests and identity."""
        return self.root / "plan.json"

    @property
    def split(self) -> Path:
        """Where the table is cut."""
        return self.root / "split.json"

    @property
    def label_config(self) -> Path:
        """The effective config of `nightroute label` with its judge templates; `resume` does not know it."""
        return self.root / "label.json"

    @property
    def sample(self) -> Path:
        """The queries that `nightroute label` drew."""
        return self.root / "sample.parquet"

    @property
    def repeated(self) -> Path:
        """Addresses of repeated ids; its presence means that every part is scored."""
        return self.root / "scores" / "repeated.parquet"

    @property
    def ledger(self) -> Path:
        """The ledger's database."""
        return self.root / "ledger" / "ledger.sqlite"

    @property
    def embeddings(self) -> Path:
        """The ledger of embedding requests, where the router needs them."""
        return self.root / "ledger" / "embeddings.sqlite"

    @property
    def prices(self) -> Path:
        """Price snapshot of this run."""
        return self.root / "prices.parquet"

    @property
    def rejected(self) -> Path:
        """Rows that broke a rule, with the names of the rules."""
        return self.root / "rejected.parquet"

    @property
    def manifest(self) -> Path:
        """Copy of the last published manifest; its presence means that the run is finished."""
        return self.root / "manifest.json"

    @property
    def staging(self) -> Path:
        """Half-written files; emptied at every start."""
        return self.root / "staging"

    def scores(self, part: int) -> Path:
        """SCORED of a part."""
        return self.root / "scores" / f"part-{part:05d}.parquet"

    def refused(self, part: int) -> Path:
        """Rejected rows of a part."""
        return self.root / "scores" / f"rejected-{part:05d}.parquet"

    def forget(self) -> None:
        """Remove all that a run wrote before it sent anything.

        Raises:
            StorageError: the disk refuses.
        """
        with storing(self.root):
            ledger = self.ledger.parent.glob(f"{self.ledger.name}*")  # with its -wal and -shm
            for file in (self.prices, self.sample, self.rejected, *ledger):
                file.unlink(missing_ok=True)
            shutil.rmtree(self.root / "scores", ignore_errors=True)
            self.plan.unlink(missing_ok=True)  # last: while it is there, whoever is killed here begins again
        self.prepare()

    def prepare(self) -> None:
        """Create the folders.

        Raises:
            StorageError: the disk refuses.
        """
        with storing(self.root):
            for folder in (self.root, self.root / "scores", self.root / "ledger"):
                folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the disk says into one message.

    Raises:
        ConfigError: a file stands where a folder is needed; no waiting mends that.
        StorageError: full, read-only, no permission.
    """
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        # polars reports a failed write as its own error type, with the system's words inside.
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise ConfigError(
                f"{path} cannot be written: {error.filename} is a file or lies below one; name a folder"
            ) from error
        raise StorageError(
            f"{path} cannot be written: {reason}; free or mend the disk, or choose another folder, "
            "then run the same command again"
        ) from error


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Hold the run's lock; the kernel frees it when the process ends, however it ends.

    Raises:
        TryLaterError: another process works on this run.
    """
    with storing(run.lock):
        file = run.lock.open("a+", encoding="utf-8")
    with file:
        try:
            # `status` holds the lock for an instant to see whether it is free.
            for attempt in Retrying(
                retry=retry_if_exception_type(BlockingIOError),
                stop=stop_after_attempt(5),
                wait=wait_fixed(0.05),
                reraise=True,
            ):
                with attempt:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise TryLaterError(
                f"run {run.root} is locked by {holder}; wait for it or stop it, then try again"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextmanager
def at_work(run: RunDir) -> Iterator[None]:
    """Create the folder if need be, hold its lock, and begin with an empty staging folder.

    Raises:
        ConfigError: the folder holds a `staging` that is not ours to empty.
        StorageError: the disk refuses.
        TryLaterError: another process works on this run.
    """
    check_staging(run)
    run.prepare()
    with locked(run):
        with storing(run.staging):
            shutil.rmtree(run.staging, ignore_errors=True)
        yield


def check_staging(run: RunDir) -> None:
    """Look whether staging may be emptied: before the lock is taken for the first time, nothing in it is ours.

    Raises:
        ConfigError: it holds files.
        StorageError: the disk refuses.
    """
    with storing(run.staging):
        foreign = not run.lock.exists() and run.staging.is_dir() and any(run.staging.iterdir())
    if foreign:
        raise ConfigError(
            f"{run.staging} holds files that nightroute did not write, and that it would delete; "
            "name a folder for the results that is theirs alone"
        )


def is_locked(run: RunDir) -> bool:
    """Whether a process works on this run now."""
    try:
        with run.lock.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def write_atomic(path: Path, write: Callable[[Path], object], staging: Path) -> None:
    """Write to staging, make it durable, rename: the file is whole or not there.

    Raises:
        StorageError: the disk refuses.
    """
    with storing(path):
        staging.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = staging / f"{path.name}.{os.getpid()}"
        write(draft)
        sync(draft)
        move(draft, path)


def write_parquet(path: Path, frame: pl.DataFrame, staging: Path) -> None:
    """Write a table atomically, zstd-compressed."""
    write_atomic(
        path, lambda draft: frame.write_parquet(draft, compression="zstd", compression_level=PARQUET_LEVEL), staging
    )


def write_json(path: Path, record: BaseModel, staging: Path) -> None:
    """Write a record atomically."""
    write_text(path, json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n", staging)


def write_text(path: Path, text: str, staging: Path) -> None:
    """Write text atomically."""
    write_atomic(path, lambda draft: draft.write_text(text, encoding="utf-8"), staging)


def read_json(model: type[R], path: Path) -> R:
    """Read a record.

    Raises:
        InputMissingError: it is not there.
        ConfigError: another version wrote it, or it is damaged.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputMissingError(
            f"{path} cannot be read ({error.strerror}); is {path.parent} the folder of a run that has been started?"
        ) from error
    except ValidationError as error:
        raise ConfigError(
            f"{path} cannot be understood ({error.error_count()} problems, the first at "
            f"{'.'.join(map(str, error.errors()[0]['loc']))}): another version wrote it, or it is damaged; "
            "start a new run folder"
        ) from error


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder within or across disks, and make the new name durable."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            if source.is_dir():
                shutil.copytree(source, beside)
            else:
                shutil.copy2(source, beside)
            for copied in (beside, *beside.rglob("*")):
                sync(copied)
            beside.rename(target)
        finally:
            _remove(beside)  # gone already, unless the other disk refused
        _remove(source)
    sync(target.parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
