"""`nightroute demo`: the routers in a browser, offline. Starts Streamlit on this machine and waits for its end."""

import os
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from jobs import console
from jobs.interrupting import interruptible
from jobs.report.palette import DARK, LIGHT
from routing.artifact import RouterArtifact, check_reads_tokens, load, locate
from routing.errors import ConfigError, TryLaterError

HOST: Final = "127.0.0.1"
BUILTIN: Final = ("builtin:static-mf", "builtin:bert-minilm")
SLOW: Final = frozenset({"bert", "causal_llm"})
"""Kinds that are opt-in: transformers. bert-minilm scores about 100 prompts a second and core, others thousands."""
SCRIPT: Final = Path(__file__).with_name("demo_app.py")

READY_S: Final = 60.0
STOP_S: Final = 5.0
_POLL_S: Final = 0.1

_THEMES: Final = {
    scheme: {
        "primaryColor": colours["link"],
        "backgroundColor": colours["paper"],
        "secondaryBackgroundColor": colours["panel"],
        "textColor": text,
    }
    # Streamlit shows captions at 60 %, which our own light ink is a little too light for (WCAG 2.2 AA).
    for scheme, colours, text in (("light", LIGHT, "#0b0a09"), ("dark", DARK, DARK["ink"]))
}

OPTIONS: Final[Mapping[str, str | tuple[str, ...]]] = {
    "server.address": HOST,
    "server.allowedHosts": (HOST, "localhost"),  # not another name that someone lets point here
    "server.headless": "true",
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.enableStaticServing": "false",
    "browser.serverAddress": HOST,  # otherwise it asks a public service for this machine's address
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorLinks": "false",
    "client.disableDataExport": "true",  # its CSV leaves formulas in prompts alive
    "runner.magicEnabled": "false",
    "logger.hideWelcomeMessage": "true",
    **{f"theme.{scheme}.{name}": colour for scheme, colours in _THEMES.items() for name, colour in colours.items()},
}
"""How Streamlit is run, whatever the user's own Streamlit config says: on loopback, silent, in the pages' colours."""


ENVIRONMENT: Final = {"ORT_DISABLE_TELEMETRY": "1"}
"""onnxruntime reports to its maker otherwise (its Privacy.md); it reads this when it is loaded."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A router that the demo offers."""

    name: str
    artifact: RouterArtifact
    chosen: bool
    """Whether it scores from the start."""


def demo(*, routers: Sequence[str], port: int | None, open_browser: bool) -> int:
    """Serve the demo until SIGINT or SIGTERM; returns the exit code.

    One JSON line, `{"job": "demo", "url": ..., "pid": ...}`, goes to stdout as soon as the page can be opened.

    Args:
        routers: Artifacts beside the shipped ones: `builtin:NAME` or folders.
        port: On 127.0.0.1; a free one for None or 0.
        open_browser: Open the page.

    Raises:
        ConfigError: Streamlit is missing, the port is taken, or a router starts at an embedding that has to be bought.
        ArtifactError: a router is missing or damaged.
        TryLaterError: Streamlit did not answer in time.
    """
    if find_spec("streamlit") is None:
        raise ConfigError("nightroute demo needs Streamlit: pip install 'nightroute[demo]'")
    offers(routers)  # a bad one is known before anything starts
    address = free_port(port or 0)
    url = f"http://{HOST}:{address}"
    line, environment = command(address, routers), {**os.environ, **ENVIRONMENT}
    # Its own words go to stderr; stdout is for our line.
    with interruptible(always=True), subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) as child:  # noqa: S603 - our own
        try:
            _wait_until_ready(child, address)
            console.say(f"the demo is at {url}; Ctrl-C ends it")
            console.emit({"job": "demo", "status": "serving", "url": url, "pid": child.pid})
            if open_browser:
                webbrowser.open(url)
            code = child.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(child)
    raise ConfigError(f"Streamlit ended by itself, exit code {code}; its message is above")


def offers(routers: Sequence[str]) -> list[Offer]:
    """Load and verify the routers of the demo, those given first; a router is offered once.

    Raises:
        ArtifactError: one is missing or damaged.
        ConfigError: one starts at an embedding that has to be bought.
    """
    found: dict[str, Offer] = {}
    for given in (*routers, *BUILTIN):
        artifact = load(locate(given, relative_to=Path.cwd()))
        check_reads_tokens(artifact, said=f"router {given!r}", advice="the demo calls nobody: leave it out")
        taken = artifact.card.name in {offer.name for offer in found.values()}
        offer = Offer(
            given if taken else artifact.card.name, artifact, given in routers or artifact.card.kind not in SLOW
        )
        found.setdefault(artifact.sha256, offer)
    return list(found.values())


def command(port: int, routers: Sequence[str]) -> list[str]:
    """Return the command line that runs the page on a port."""
    options = [
        f"--{name}={value}"
        for name, given in {**OPTIONS, "server.port": str(port)}.items()
        for value in ([given] if isinstance(given, str) else given)
    ]
    return [sys.executable, "-P", "-m", "streamlit", "run", str(SCRIPT), *options, "--", *routers]


def free_port(port: int) -> int:
    """Return the port if it is free, or any free one for 0.

    Raises:
        ConfigError: it is taken, reserved or no port.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(f"a port is a number of 0 to 65535, got {port}; leave it out for a free one")
    try:
        with socket.create_server((HOST, port)) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        reason = str(error) if error.errno is None else os.strerror(error.errno)
        raise ConfigError(
            f"cannot listen on {HOST}:{port}: {reason}; name another port, or none for a free one"
        ) from error


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _wait_until_ready(child: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_S
    while not _answers(port):
        if (code := child.poll()) is not None:
            raise ConfigError(f"Streamlit ended before it listened, exit code {code}; its message is above")
        if time.monotonic() > deadline:
            raise TryLaterError(f"Streamlit did not listen within {READY_S:g} s; is the machine overloaded?")
        time.sleep(_POLL_S)


def _answers(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
