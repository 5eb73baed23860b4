"""`nightroute sandbox`: run the OpenAI-compatible server until a signal, or as a child of a test or of `make run`."""

import asyncio
import json
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from jobs.interrupting import handled
from routing.errors import ConfigError, TryLaterError
from routing.sandbox.config import SandboxConfig
from routing.sandbox.serving import serve

SANDBOX_COMMAND = (sys.executable, "-m", "jobs", "sandbox")


def run_sandbox(config: SandboxConfig, *, stdout: TextIO | None = None) -> int:
    """Serve until SIGINT or SIGTERM and return the exit code.

    One JSON line, `{"base_url": ..., "pid": ...}`, goes to stdout as soon as requests are accepted.

    Args:
        config: What to serve.
        stdout: Where the line goes; `sys.stdout` when None.
    """
    out = sys.stdout if stdout is None else stdout

    def announce(line: str) -> None:
        out.write(line + "\n")
        out.flush()

    asyncio.run(_serve_until_signal(config, announce))
    return 0


@contextmanager
def sandbox_process(
    args: Sequence[str] = (),
    *,
    command: Sequence[str] = SANDBOX_COMMAND,
    ready_timeout_s: float = 30.0,
    stop_timeout_s: float = 5.0,
) -> Iterator[str]:
    """Run the sandbox as a child on a free port; the value is its base URL. The child is gone when the context ends.

    Args:
        args: Further arguments of `nightroute sandbox`, such as `["--config", "sandbox.toml"]`.
        command: What starts the sandbox.
        ready_timeout_s: How long it may take to listen.
        stop_timeout_s: How long it may take to end after SIGTERM before it is killed.

    Raises:
        ConfigError: The child ended before it listened; its own message is on stderr.
        TryLaterError: It did not listen in time.
    """
    # stderr is inherited: what the child has to say belongs beside what its parent says.
    with subprocess.Popen([*command, "--port", "0", *args], stdout=subprocess.PIPE) as child:  # noqa: S603 - our own
        try:
            yield _base_url(child, ready_timeout_s)
        finally:
            child.terminate()
            try:
                child.wait(stop_timeout_s)
            except subprocess.TimeoutExpired:
                child.kill()


async def _serve_until_signal(config: SandboxConfig, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    with handled(lambda _: stop.set()):
        await serve(config, stop=stop, on_ready=announce)


def _base_url(child: subprocess.Popen[bytes], timeout_s: float) -> str:
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        if not selector.select(timeout_s):
            raise TryLaterError(f"the sandbox did not listen within {timeout_s:g} s; is the machine overloaded?")
    line = child.stdout.readline()
    base_url = json.loads(line).get("base_url") if line else None
    if base_url is None:
        raise ConfigError(f"the sandbox ended before it listened, exit code {child.wait()}; its message is above")
    return str(base_url)
