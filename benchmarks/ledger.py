"""Ledger: SQLite WAL with group commit against append-only segments with group fsync, same records, same durability.

Each call writes two durable records (before it is sent, after its reply) of about 1.5 KB together, from many workers at
once. Run: `python benchmarks/ledger.py`. Decision 0003 rests on it.
"""

import asyncio
import json
import os
import queue
import resource
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from routing.ledger import Ledger, Reply, Send

BODY = json.dumps({"choices": [{"message": {"content": "x" * 1_100}}], "usage": {"completion_tokens": 200}})
CALLS = 20_000

Record = Callable[[int], Awaitable[None]]


class Segments:
    """The alternative: JSON lines appended to one file; a thread writes what has gathered and calls fsync once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._queue: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    async def append(self, record: dict[str, object]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put((json.dumps(record).encode() + b"\n", done))
        await done

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def _loop(self) -> None:
        stop = False
        while not stop:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            stop = None in batch
            items = [item for item in batch if item is not None]
            self._file.write(b"".join(line for line, _ in items))
            os.fsync(self._file.fileno())
            for _, done in items:
                done.get_loop().call_soon_threadsafe(done.set_result, None)


async def sqlite(folder: Path, workers: int, calls: int) -> None:
    with Ledger(folder / "ledger.sqlite") as ledger:

        async def record(i: int) -> None:
            send = Send(f"{i:064x}", i // 5_000, i, f"q{i}", "gpt-4.1", 1, time.time(), "0.001")
            reply = Reply(200, None, None, None, f"req-{i}", 0.2, time.time(), BODY)
            await ledger.replied(await ledger.sent(send), send, reply, ends=True, error_code=None)

        await in_parallel(record, workers, calls)


async def segments(folder: Path, workers: int, calls: int) -> None:
    log = Segments(folder / "segment.jsonl")

    async def record(i: int) -> None:
        await log.append(
            {"call_key": f"{i:064x}", "part": i // 5_000, "row": i, "query_id": f"q{i}", "at": time.time()}
        )
        await log.append({"call_key": f"{i:064x}", "part": i // 5_000, "status": 200, "at": time.time(), "body": BODY})

    try:
        await in_parallel(record, workers, calls)
    finally:
        log.close()


async def in_parallel(record: Record, workers: int, calls: int) -> None:
    numbers = iter(range(calls))

    async def work() -> None:
        for i in numbers:
            await record(i)

    await asyncio.gather(*(work() for _ in range(workers)))


def main() -> None:
    print("workers  ledger    calls/s  CPU ms/call")
    for workers in (1, 16, 64, 256):
        calls = CALLS if workers > 1 else CALLS // 10
        for name, ledger in (("sqlite", sqlite), ("segments", segments)):
            # Beside the repository, not in /tmp, which may be memory: fsync has to reach a disk.
            with tempfile.TemporaryDirectory(dir=".") as folder:
                before, started = cpu_s(), time.perf_counter()
                asyncio.run(ledger(Path(folder), workers, calls))
                wall, cpu = time.perf_counter() - started, cpu_s() - before
            print(f"{workers:7}  {name:8}  {calls / wall:7,.0f}  {1_000 * cpu / calls:11.3f}", flush=True)


def cpu_s() -> float:
    """Processor seconds of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
