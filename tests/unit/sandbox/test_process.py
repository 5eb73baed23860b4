import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from jobs.sandbox import sandbox_process
from routing.errors import ConfigError, TryLaterError
from tests.unit.sandbox.support import ask, events

SCRIPT = """
import sys
from jobs.sandbox import run_sandbox
from routing.sandbox.config import SandboxConfig

flag, port, config = sys.argv[1:]
assert flag == "--port"
sys.exit(run_sandbox(SandboxConfig.model_validate_json(config).model_copy(update={"port": int(port)})))
"""
CLIENT = f"""
import sys
from urllib.request import Request, urlopen

urlopen(Request(sys.argv[1] + "/chat/completions", {json.dumps(ask()).encode()!r}))
"""
COMMAND = (sys.executable, "-W", "error", "-c", SCRIPT)


def post(base_url: str) -> int:
    request = Request(f"{base_url}/chat/completions", json.dumps(ask()).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=10) as reply:
        return int(reply.status)


def config_json(tokenizer: Path, **fields: object) -> str:
    return json.dumps({"tokenizer": str(tokenizer), **fields})


def test_a_child_serves_while_the_context_is_open(tokenizer_path: Path) -> None:
    with sandbox_process([config_json(tokenizer_path)], command=COMMAND) as base_url:
        assert post(base_url) == 200
    with pytest.raises(OSError, match="refused"):
        post(base_url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_with_code_0(tokenizer_path: Path, tmp_path: Path, number: signal.Signals) -> None:
    journal = tmp_path / "journal.jsonl"
    config = config_json(tokenizer_path, journal=str(journal), faults={"rate_timeout": 1, "hang_s": 60})
    with subprocess.Popen(
        [*COMMAND, "--port", "0", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        ready = json.loads(child.stdout.readline())
        assert ready["pid"] == child.pid
        hanging = subprocess.Popen([sys.executable, "-c", CLIENT, ready["base_url"]], stderr=subprocess.DEVNULL)
        try:
            while not events(journal, "received"):
                time.sleep(0.02)
            os.kill(child.pid, number)
            out, err = child.communicate(timeout=30)  # half of what the request hangs
        finally:
            hanging.kill()
            hanging.wait()
    assert (child.returncode, out, err) == (0, "", "")
    assert [line["fault"] for line in events(journal, "finished")] == ["stopped"]


def test_the_journal_survives_a_kill(tokenizer_path: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    with sandbox_process([config_json(tokenizer_path, journal=str(journal))], command=COMMAND) as base_url:
        for _ in range(5):
            post(base_url)
        os.kill(events(journal, "received")[0]["pid"], signal.SIGKILL)
    assert [line["status"] for line in events(journal, "finished")] == [200] * 5


def test_a_child_that_cannot_start_is_told_so(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="ended before it listened, exit code 1"),
        sandbox_process([config_json(tmp_path / "none.json")], command=COMMAND),
    ):
        pass


def test_a_child_that_does_not_listen_in_time_is_stopped() -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    with (
        pytest.raises(TryLaterError, match=r"within 0\.2 s"),
        sandbox_process(command=sleeper, ready_timeout_s=0.2),
    ):
        pass


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    alive = tmp_path / "alive.fifo"
    os.mkfifo(alive)
    deaf = (
        f"import signal, time; pipe = open({str(alive)!r}, 'w'); signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        """print('{"base_url": "http://127.0.0.1:1/v1"}', flush=True); time.sleep(60)"""
    )
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    with sandbox_process(command=(sys.executable, "-c", deaf), stop_timeout_s=0.3) as base_url:
        assert base_url == "http://127.0.0.1:1/v1"
        with pytest.raises(BlockingIOError):  # the child holds the other end
            os.read(reader, 1)
    assert os.read(reader, 1) == b""  # and is gone
    os.close(reader)
