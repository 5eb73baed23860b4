"""The server's life: it listens on loopback, announces itself, and ends at once when it is told to."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from routing.errors import ConfigError
from routing.sandbox.config import LOOPBACK, SandboxConfig
from routing.sandbox.journal import Journal
from routing.sandbox.replay import Replay
from routing.sandbox.server import MAX_BODY_BYTES, Clock, Sandbox, Sleep
from routing.sandbox.tokens import TokenCounter

_BACKLOG = 1024
_SHUTDOWN_S = 0.2


@asynccontextmanager
async def serving(
    config: SandboxConfig,
    *,
    clock: Clock = time.monotonic,
    wall_clock: Clock = time.time,
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[str]:
    """Serve while the context is open; the value is the base URL, such as `http://127.0.0.1:8377/v1`.

    Raises:
        ConfigError: The host is not loopback, the port is taken, or the tokenizer cannot be used.
        InputMissingError: Tokenizer or recorded answers are missing.
        DataError: The recorded answers cannot be replayed.
        StorageError: The journal cannot be written.
    """
    if config.host != LOOPBACK:  # a config made with model_construct or model_copy was not validated
        raise ConfigError(f"the sandbox listens on {LOOPBACK} only, got host '{config.host}'")
    counter = TokenCounter.from_file(config.tokenizer)
    replay = None if config.replay is None else Replay(config.replay)
    journal = None if config.journal is None else Journal(config.journal)
    try:
        sandbox = Sandbox(
            config,
            counter=counter,
            replay=replay,
            journal=journal,
            clock=clock,
            wall_clock=wall_clock,
            sleep=sleep,
        )
        # web.Server leaves out the router and the middlewares of web.Application: five paths need neither.
        server = web.Server(sandbox.handle, request_factory=_request_factory(), access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            site = web.TCPSite(runner, LOOPBACK, config.port, backlog=_BACKLOG)
            try:
                await site.start()
            except OSError as exc:
                raise ConfigError(
                    f"cannot listen on {LOOPBACK}:{config.port}: {exc.strerror}; name another port, 0 for a free one"
                ) from exc
            yield f"http://{LOOPBACK}:{runner.addresses[0][1]}/v1"
        finally:
            await sandbox.stop()
            await runner.cleanup()
    finally:
        if journal is not None:
            journal.close()


async def serve(
    config: SandboxConfig,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
    clock: Clock = time.monotonic,
) -> None:
    """Serve until `stop` is set; `on_ready` gets one JSON line with `base_url` and `pid` once requests are accepted."""
    async with serving(config, clock=clock) as base_url:
        on_ready(json.dumps({"base_url": base_url, "pid": os.getpid()}))
        await stop.wait()


def _request_factory() -> Callable[..., web.BaseRequest]:
    """Return what makes requests: aiohttp's own, but for bodies up to MAX_BODY_BYTES instead of 1 MiB."""
    loop = asyncio.get_running_loop()

    def make(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)

    return make
