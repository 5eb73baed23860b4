"""The ledger: every attempt and every raw reply, durable before it is parsed or published (DESIGN section 3).

SQLite in WAL mode with `synchronous=FULL`; one writer thread commits whatever has gathered since its last commit, so
that
many calls share one fsync (docs/decisions/0003). Three append-only tables: `sends` is written before a request leaves,
`replies` when it is over, `ends` when a call is decided for good. A send without a reply was in flight at a kill.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl

from routing.errors import StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sends (
    id INTEGER PRIMARY KEY, call_key TEXT NOT NULL, part INTEGER NOT NULL, row INTEGER NOT NULL, query_id TEXT NOT NULL,
    model TEXT NOT NULL, attempt INTEGER NOT NULL, sent_at REAL NOT NULL, estimate_usd TEXT
);
CREATE TABLE IF NOT EXISTS replies (
    send_id INTEGER PRIMARY KEY, part INTEGER NOT NULL, call_key TEXT NOT NULL, model TEXT NOT NULL, status INTEGER,
    error_code TEXT, error_message TEXT, retry_after_s REAL, request_id TEXT, latency_s REAL NOT NULL,
    replied_at REAL NOT NULL, body TEXT
);
CREATE TABLE IF NOT EXISTS ends (
    send_id INTEGER PRIMARY KEY, part INTEGER NOT NULL, call_key TEXT NOT NULL, attempts INTEGER NOT NULL, error_code
    TEXT
);
CREATE INDEX IF NOT EXISTS sends_by_part ON sends (part, call_key);
CREATE INDEX IF NOT EXISTS ends_by_part ON ends (part);
CREATE INDEX IF NOT EXISTS paid_by_part ON replies (part) WHERE status = 200;
"""
_SEND = "INSERT INTO sends VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REPLY = "INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_END = "INSERT INTO ends VALUES (?, ?, ?, ?, ?)"

WITHDRAWN = "withdrawn"
"""Error code of a reply that stands for a request which was announced but never left."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """A request about to leave."""

    call_key: str
    part: int
    row: int
    query_id: str
    model: str
    attempt: int
    """1 for the first call of a query on this model."""
    sent_at: float
    """Unix time, seconds."""
    estimate_usd: str | None
    """What it may cost at most, as estimated; null when unpriced."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What an attempt ended with. `body` is the raw reply: it is stored before anything is done with it."""

    status: int | None
    """HTTP status; null when the connection gave none."""
    error_code: str | None
    error_message: str | None
    retry_after_s: float | None
    request_id: str | None
    latency_s: float
    replied_at: float
    """Unix time, seconds."""
    body: str | None


class LedgerReader:
    """Questions to a ledger; safe beside a process that writes to it."""

    def __init__(self, path: Path) -> None:
        """Take the database file; it is opened for each question."""
        self._path = path

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        with self._storage("read"), contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            yield connection

    @contextlib.contextmanager
    def _storage(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"ledger {self._path} cannot be {done}: {error}; check that the disk is local, writable and not full"
            ) from error

    def _query(self, sql: str, schema: dict[str, pl.DataType], *values: object) -> pl.DataFrame:
        with self._reading() as connection:
            rows = connection.execute(sql, values).fetchall()
        return pl.DataFrame(rows, schema=schema, orient="row")

    def has_sends(self) -> bool:
        """Whether anything was ever sent."""
        return bool(self._query("SELECT EXISTS(SELECT 1 FROM sends)", {"found": pl.Int64()}).item())

    def ended(self, part: int) -> pl.DataFrame:
        """Return the decided calls of a part, the latest decision each: call_key, error_code (null: answered)."""
        return self._query(
            "SELECT call_key, error_code FROM ends WHERE part = ?1 AND send_id IN"
            " (SELECT max(send_id) FROM ends WHERE part = ?1 GROUP BY call_key)",
            {"call_key": pl.String(), "error_code": pl.String()},
            part,
        )

    def sends(self, part: int) -> pl.DataFrame:
        """Count the attempts of a part by call, whatever came of them: call_key, attempts."""
        return self._query(
            "SELECT s.call_key, count(*) FROM sends s LEFT JOIN replies r ON r.send_id = s.id"
            " WHERE s.part = ? AND r.error_code IS NOT ? GROUP BY s.call_key",
            {"call_key": pl.String(), "attempts": pl.Int64()},
            part,
            WITHDRAWN,
        )

    def replies(self, part: int) -> pl.DataFrame:
        """Return the deciding reply of every decided call of a part, one row a call."""
        return self._query(
            "SELECT e.call_key, e.attempts, e.error_code, r.error_message, r.status, r.latency_s, r.replied_at, r.body"
            " FROM ends e JOIN replies r USING (send_id) WHERE e.part = ?1 AND e.send_id IN"
            " (SELECT max(send_id) FROM ends WHERE part = ?1 GROUP BY call_key)",
            {
                "call_key": pl.String(), "attempts": pl.Int64(), "error_code": pl.String(),
                "error_message": pl.String(), "status": pl.Int64(), "latency_s": pl.Float64(),
                "replied_at": pl.Float64(), "body": pl.String(),
            },
            part,
        )  # fmt: skip

    def paid(self, part: int) -> pl.DataFrame:
        """Return every reply of a part that carried status 200, used or not: model, replied_at, body."""
        return self._query(
            "SELECT model, replied_at, body FROM replies WHERE part = ? AND status = 200",
            {"model": pl.String(), "replied_at": pl.Float64(), "body": pl.String()},
            part,
        )

    def mean_output_tokens(self) -> dict[str, int]:
        """Mean length of the answers of each model so far, as billed, rounded to whole tokens."""
        means = self._query(
            "SELECT model, avg(json_extract(body, '$.usage.completion_tokens')) FROM replies"
            " WHERE status = 200 AND json_valid(body) GROUP BY model",
            {"model": pl.String(), "mean": pl.Float64()},
        ).drop_nulls()
        return {model: round(mean) for model, mean in means.iter_rows()}

    def unknown(self) -> pl.DataFrame:
        """Return requests whose outcome is unknown (sent, then killed): query_id, model, sent_at, estimate_usd."""
        return self._query(
            "SELECT query_id, model, sent_at, estimate_usd FROM sends WHERE id NOT IN (SELECT send_id FROM replies)",
            {"query_id": pl.String(), "model": pl.String(), "sent_at": pl.Float64(), "estimate_usd": pl.String()},
        )

    def counts(self) -> pl.DataFrame:
        """Count decided calls by model and outcome: model, error_code (null: answered), calls, attempts."""
        return self._query(
            "SELECT r.model, e.error_code, count(*), sum(e.attempts) FROM ends e JOIN replies r USING (send_id)"
            " GROUP BY 1, 2 ORDER BY 1, 2",
            {"model": pl.String(), "error_code": pl.String(), "calls": pl.Int64(), "attempts": pl.Int64()},
        )


class Ledger(LedgerReader):
    """Append-only record of a run's calls. Writes are awaited: when they return, the record survives a power cut."""

    def __init__(self, path: Path) -> None:
        """Open or create the ledger.

        Args:
            path: The database file; its folder must exist and lie on a local disk (WAL needs shared memory).

        Raises:
            StorageError: the file cannot be opened, or is no ledger.
        """
        super().__init__(path)
        with self._storage("opened"), contextlib.closing(self._connect()) as connection:
            connection.executescript(_SCHEMA)
            self._next_id = 1 + int(connection.execute("SELECT coalesce(max(id), 0) FROM sends").fetchone()[0])
        self._queue: queue.SimpleQueue[tuple[list[tuple[str, Row]], Callable[[BaseException | None], None]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def close(self) -> None:
        """Commit what is queued and stop the writer."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def sent(self, send: Send) -> int:
        """Record that a request is about to leave; return its send id."""
        send_id = self._next_id
        self._next_id += 1
        row = (
            send_id, send.call_key, send.part, send.row, send.query_id, send.model, send.attempt, send.sent_at,
            send.estimate_usd,
        )  # fmt: skip
        await self._write([(_SEND, row)])
        return send_id

    async def replied(self, send_id: int, send: Send, reply: Reply, *, ends: bool, error_code: str | None) -> None:
        """Record how a request ended and, when `ends`, that its call is decided: answered, or `error_code`."""
        rows: list[tuple[str, Row]] = [
            (
                _REPLY,
                (
                    send_id, send.part, send.call_key, send.model, reply.status, reply.error_code, reply.error_message,
                    reply.retry_after_s, reply.request_id, reply.latency_s, reply.replied_at, reply.body,
                ),
            )
        ]  # fmt: skip
        if ends:
            rows.append((_END, (send_id, send.part, send.call_key, send.attempt, error_code)))
        await self._write(rows)

    async def _write(self, rows: list[tuple[str, Row]]) -> None:
        if self._thread is None:
            with self._storage("opened"):  # here, where the error reaches whoever waits for the write
                connection = self._connect()
            self._thread = threading.Thread(target=self._commit_loop, args=(connection,), name="ledger", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits, but later rows are still stored
                loop.call_soon_threadsafe(_settle, done, error)

        self._queue.put((rows, settle))
        await done

    def _commit_loop(self, connection: sqlite3.Connection) -> None:
        stop = False
        while not stop:
            batch = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._queue.get_nowait())
            stop = None in batch
            writes = [item for item in batch if item is not None]
            error = _commit(connection, [row for rows, _ in writes for row in rows])
            for rows, settle in writes:
                # Once more, each on its own: a write that fails must not take the paid replies beside it along.
                settle(error and _commit(connection, rows))
        connection.close()


def _commit(connection: sqlite3.Connection, rows: list[tuple[str, Row]]) -> BaseException | None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        for sql in (_SEND, _REPLY, _END):
            connection.executemany(sql, [row for wanted, row in rows if wanted is sql])
        connection.execute("COMMIT")
    except Exception as error:  # of any kind: the thread has to live on, or all later writes would wait for ever
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        return StorageError(
            f"the ledger could not be written: {error}; free disk space or repair the disk, then resume the run"
        )
    return None


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
