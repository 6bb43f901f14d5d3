"""Children are restarted within bounds and stopped in order."""

import asyncio
import os
import signal
import sys

from qraft_cli.stack import supervisor as module
from qraft_cli.stack.servers import ServerCommand
from qraft_cli.stack.state import StackState, describe_process, is_alive, own_process, read_state, write_state
from qraft_cli.stack.supervisor import Supervisor

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")


async def _until(condition, timeout_s=10.0):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_killed_child_is_started_again(tmp_path):
    supervisor = Supervisor(tmp_path, on_change=lambda: None)
    await supervisor.start(ServerCommand("child", SLEEPER), env={})
    first = supervisor.processes()[0]

    os.kill(first.pid, signal.SIGKILL)
    await _until(lambda: supervisor.processes()[0].pid != first.pid)
    second = supervisor.processes()[0]
    await supervisor.stop_all()

    assert (second.state, second.n_restarts) == ("running", 1)
    assert not is_alive(second)


async def test_crash_loop_ends_as_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BACKOFF_S", (0.0,))
    monkeypatch.setattr(module, "MAX_RESTARTS", 3)
    supervisor = Supervisor(tmp_path, on_change=lambda: None)

    await supervisor.start(
        ServerCommand("child", (sys.executable, "-c", "raise SystemExit('no such setting')")), env={}
    )
    await _until(lambda: supervisor.processes()[0].state == "failed")
    await supervisor.stop_all()

    assert (tmp_path / "child.log").read_text().count("no such setting") == 4


async def test_child_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.3)
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    supervisor = Supervisor(tmp_path, on_change=lambda: None)
    await supervisor.start(ServerCommand("child", (sys.executable, "-c", program)), env={})
    await _until(lambda: "deaf" in (tmp_path / "child.log").read_text())
    info = supervisor.processes()[0]

    await supervisor.stop("child")

    assert not is_alive(info)


def test_state_file_round_trips_and_rubbish_is_no_state(tmp_path):
    path = tmp_path / "stack.json"
    own = own_process("supervisor")
    state = StackState(
        own, "nats://127.0.0.1:1", "http://127.0.0.1:2", "postgresql://x", "http://desk", "replay", (own,)
    )

    write_state(path, state)

    assert read_state(path) == state
    path.write_text('{"half":')
    assert read_state(path) is None
    assert read_state(tmp_path / "nothing.json") is None


def test_a_reused_pid_is_not_taken_for_ours():
    own = describe_process("x", os.getpid())

    assert is_alive(own)
    assert not is_alive(type(own)("x", os.getpid(), own.started_at - 100))
