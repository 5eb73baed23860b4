import json
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from jobs import demo, demo_data
from routing.artifact import BUILTIN
from routing.errors import ArtifactError, ConfigError
from routing.score import TOKENS_PER_MESSAGE, TOKENS_PER_REPLY


def test_offers_name_each_router_once(tmp_path: Path) -> None:
    copy = tmp_path / "mine"
    copy.mkdir()
    for file in (BUILTIN / "static-mf").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert [(o.name, o.chosen) for o in demo.offers([])] == [("static-mf", True), ("bert-minilm", False)]
    assert [o.name for o in demo.offers([str(copy)])] == ["static-mf", "bert-minilm"]
    card = json.loads((copy / "router.json").read_text()) | {"licence": "mine"}
    (copy / "router.json").write_text(json.dumps(card))
    found = demo.offers([str(copy), "builtin:bert-minilm"])
    assert [(o.name, o.chosen) for o in found] == [
        ("static-mf", True), ("bert-minilm", True), ("builtin:static-mf", True),
    ]  # fmt: skip
    bought = {"embedding": {"provider": "openai", "model": "e", "dim": 2, "max_tokens": 9}}
    (copy / "router.json").write_text(json.dumps(card | bought))
    with pytest.raises(ConfigError, match="has to be bought"):
        demo.offers([str(copy)])
    with pytest.raises(ArtifactError):
        demo.offers([str(tmp_path / "nothing")])


def test_the_server_is_loopback_only_and_silent() -> None:
    line = demo.command(4321, ["builtin:static-mf", "my router"])
    assert line[:4] == [sys.executable, "-P", "-m", "streamlit"]
    assert line[line.index("--") + 1 :] == ["builtin:static-mf", "my router"]
    assert {
        "--server.address=127.0.0.1", "--server.port=4321", "--browser.gatherUsageStats=false",
        "--browser.serverAddress=127.0.0.1", "--server.fileWatcherType=none", "--server.headless=true",
        "--server.allowedHosts=127.0.0.1", "--server.allowedHosts=localhost", "--client.disableDataExport=true",
    } <= set(line)  # fmt: skip


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server((demo.HOST, 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(
            ConfigError, match=f"cannot listen on 127.0.0.1:{taken}: Address already in use; name another"
        ):
            demo.free_port(taken)
    assert demo.free_port(0) > 0
    with pytest.raises(ConfigError, match="0 to 65535, got 70000"):
        demo.free_port(70_000)


def test_without_streamlit_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'nightroute[demo]'")):
        demo.demo(routers=[], port=None, open_browser=False)


def a_server(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda _: True)
    monkeypatch.setattr(demo, "command", lambda port, _: [sys.executable, "-c", script, str(port)])


def test_the_server_reports_to_nobody(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    a_server(monkeypatch, "import os, sys; sys.stderr.write(os.environ['ORT_DISABLE_TELEMETRY']); sys.exit(5)")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with pytest.raises(ConfigError, match="exit code 5"):
        demo.demo(routers=[], port=None, open_browser=False)
    assert capfd.readouterr().err == "1"


def test_a_server_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    a_server(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(ConfigError, match="ended before it listened, exit code 3"):
        demo.demo(routers=[], port=None, open_browser=False)


SERVER = """
import http.server, sys, threading
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        assert self.path == '/_stcore/health'
        self.send_response(200)
        self.end_headers()
        threading.Thread(target=self.server.shutdown).start()
    def log_message(self, *_): pass
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Health).serve_forever()
"""


def test_the_line_comes_when_the_page_can_be_opened(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """This server ends itself after its first answer, which a server should not."""
    a_server(monkeypatch, SERVER)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError, match="ended by itself, exit code 0"):
        demo.demo(routers=[], port=None, open_browser=True)
    assert signal.getsignal(signal.SIGTERM) is before
    line = json.loads(capfd.readouterr().out)
    assert line["status"] == "serving"
    assert opened == [line["url"]]


def test_the_page_in_docs_holds_the_messages_and_the_bounds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text()
    fragments = re.findall(r"^\| \d+ \| `([^`]+)` \|", page, re.MULTILINE)
    source = Path(demo.__file__).read_text().replace("{HOST}", demo.HOST)
    assert len(fragments) == 5
    assert [fragment for fragment in fragments if fragment not in source] == []
    assert " / ".join(f"{rows:,}" for rows in demo_data.ROWS) in page
    assert f"drawn with seed {demo_data.SEED}" in page
    assert f"plus {TOKENS_PER_REPLY + TOKENS_PER_MESSAGE} for the framing" in page
