"""The README's first command, as a newcomer runs it: to the first paper order, stopped, and run again."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.data]

QRAFT = (sys.executable, "-m", "qraft_cli")
READY_WITHIN_S = 30.0


def _environment(home, data):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QRAFT_")}
    return kept | {"QRAFT_HOME": str(home), "QRAFT_DATA": str(data), "QRAFT_TRAIN_ROW_STRIDE": "12"}


def _qraft(*arguments, environment, timeout=60):
    return subprocess.run([*QRAFT, *arguments], env=environment, capture_output=True, text=True, timeout=timeout)


def test_run_reaches_a_paper_order_and_a_second_run_goes_on(qraft_data, short_folder):
    environment = _environment(short_folder / "first", qraft_data)

    first = _qraft("run", "--no-view", "--until-order", "--speed", "0", environment=environment, timeout=400)

    assert first.returncode == 0, first.stdout[-2000:] + first.stderr[-2000:]
    assert "REPLAY" in first.stdout
    assert "passed the integrity gates" in first.stdout
    assert "first paper order" in first.stdout
    assert "stopped" in first.stdout
    assert "OpenAI-compatible at http://127.0.0.1:" in first.stdout
    assert "SIMULATED" in first.stdout  # the pictures, never the bars
    models = _qraft("models", "list", environment=environment)
    assert models.returncode == 1
    assert "qraft up" in models.stderr  # nothing runs, and it says what to do

    second = _start(environment)
    try:
        state = _wait_for_state(short_folder / "first" / "run" / "stack.json", second)
        _operate(state, environment)
    finally:
        second.send_signal(signal.SIGINT)
        output, _ = second.communicate(timeout=90)
    assert second.returncode == 0, output[-2000:]
    assert "is active since an earlier run" in output
    assert "svc_train" not in output


def _start(environment):
    argv = [*QRAFT, "run", "--no-view", "--speed", "20"]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait_for_state(path, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        if path.exists():
            state = json.loads(path.read_text())
            if set(state["parts_done"]) == {"quant", "studio"}:
                assert state["problems"] == []
                return state
        time.sleep(0.2)
    raise AssertionError("the services did not start")


def _wait_for_desk(url):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url.replace("/desk", "/api/desk"), timeout=5) as response:
                desk = json.loads(response.read())
            if desk["as_of"] and desk["positions"]:
                return desk
        except OSError:
            pass
        time.sleep(0.3)
    raise AssertionError("the desk showed no position")


def _operate(state, environment):
    """Use every operator's command on the running stack."""
    desk = _wait_for_desk(state["desk_url"])
    assert desk["origin"] == "replay"
    assert desk["profile"] == "demo"
    doctor = _qraft("doctor", environment=environment)
    ready = {f"{name}: ready" for name in ("svc_execution", "svc_imagegen-worker")}
    deadline = time.monotonic() + READY_WITHIN_S  # the desk may be there before the last service is
    while not (doctor.returncode == 0 and all(it in doctor.stdout for it in ready)) and time.monotonic() < deadline:
        time.sleep(0.5)
        doctor = _qraft("doctor", environment=environment)
    assert doctor.returncode == 0, doctor.stdout
    assert all(it in doctor.stdout for it in ready), doctor.stdout
    status = json.loads(_qraft("status", "--json", environment=environment).stdout)
    assert {stream["name"] for stream in status["streams"]} >= {"BARS", "LEDGER", "IMAGEJOBS", "USAGE"}
    assert {process["name"] for process in status["processes"]} >= {"svc_ingest", "svc_billing", "svc_imagegen"}
    assert "the ledger holds" in _qraft("ledger", "verify", environment=environment).stdout
    rows = _qraft(
        "tail", "bars.5m", "--since", "1h", "--json", "--where", "symbol=BTCUSDT", "--limit", "3",
        environment=environment,
    )  # fmt: skip
    assert [json.loads(line)["symbol"] for line in rows.stdout.splitlines()] == ["BTCUSDT"] * 3
    listed = _qraft("models", "list", "--json", environment=environment)
    active = json.loads(listed.stdout)["active"]
    assert set(active) == {"1h", "4h", "1d", "7d"}
    model_id = active["1h"]
    assert "yes" in _qraft("models", "show", model_id, environment=environment).stdout
    qualified = _qraft(
        "models", "promote", model_id, "--to", "qualified", "--reason", "test", "--actor", "t", environment=environment
    )
    assert qualified.returncode == 1
    assert "no_qualified_gates" in qualified.stderr
    nonsense = _qraft("tail", "no.such.subject", "--since", "1m", environment=environment)
    assert nonsense.returncode == 2
    assert "bars.>" in nonsense.stderr
    halted = _qraft("execution", "halt", "--reason", "test", "--actor", "t", environment=environment)
    assert "engaged" in halted.stdout
