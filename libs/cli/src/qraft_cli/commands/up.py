"""`qraft up` and `qraft down`: the local stack in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import typer

from qraft_cli.commands.run import Only, chosen_parts
from qraft_cli.commands.status import process_table
from qraft_cli.console import ERRORS, OUT
from qraft_cli.stack.home import find_home
from qraft_cli.stack.local import AlreadyRunning
from qraft_cli.stack.state import StackState, is_alive, read_state
from qraft_cli.stack.supervisor import STOP_TIMEOUT_S

# Training on first start takes a minute or two on two cores.
_UP_TIMEOUT_S = 600.0


def up(
    speed: float = typer.Option(5.0, help="Bars a second of the replay; 0 = as fast as the slowest service.", min=0),
    profile: str = typer.Option("demo", help="Limits profile: standard, or demo (labelled on every screen)."),
    only: Only = None,
) -> None:
    """Start the servers and all services in the background; return when they are ready."""
    chosen_parts(only)
    home = find_home()
    home.create()
    state = read_state(home.state_file)
    if state is not None and is_alive(state.supervisor):
        raise AlreadyRunning(f"a stack runs in {home.root} already; `qraft status` shows it, `qraft down` ends it")
    argv = [sys.executable, "-m", "qraft_cli", "run", "--no-view", "--speed", str(speed), "--profile", profile]
    argv += ["--only", only] if only else []
    log = home.logs / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=dict(os.environ)
        )
    with OUT.status("starting (the first start trains a model; see logs/supervisor.log)") as spinner:
        deadline = time.monotonic() + _UP_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                tail = log.read_text(errors="replace").strip().splitlines()[-15:]
                ERRORS.print("\n".join(tail), markup=False, highlight=False)
                ERRORS.print(f"[bold red]qraft:[/] the stack did not start (exit code {process.returncode})")
                raise typer.Exit(1)
            state = read_state(home.state_file)
            running = [p.name for p in state.processes if p.state == "running"] if state else []
            if state is not None and state.is_started:
                _print_started(state)
                return
            spinner.update(f"starting: {', '.join(running) or 'servers'}")
            time.sleep(0.3)
    ERRORS.print("[bold red]qraft:[/] not ready in time; `qraft status` and the logs folder tell where it stands")
    raise typer.Exit(1)


def _print_started(state: StackState) -> None:
    OUT.print(process_table(state))
    for problem in state.problems:
        ERRORS.print(f"[bold red]qraft:[/] {problem}", highlight=False)
    if state.desk_url:
        OUT.print(f"paper desk: [bold]{state.desk_url}[/]")
    if state.gateway_url:
        OUT.print(f"images: [bold]{state.gateway_url}[/] (simulated; the key is in {find_home().demo_key})")
    OUT.print("stop with: qraft down")


def down() -> None:
    """Stop the stack of this home: the services drain, then the servers stop. Data stays."""
    home = find_home()
    state = read_state(home.state_file)
    if state is None or not is_alive(state.supervisor):
        OUT.print(f"nothing runs in {home.root}")
        return
    process = psutil.Process(state.supervisor.pid)
    process.send_signal(signal.SIGTERM)
    with OUT.status("draining the services, then stopping the servers"):
        try:
            process.wait(timeout=3 * STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            ERRORS.print(f"[bold red]qraft:[/] pid {state.supervisor.pid} did not stop in time; see logs/")
            raise typer.Exit(1) from None
    OUT.print("stopped; `qraft up` or `make run` goes on where it was")
