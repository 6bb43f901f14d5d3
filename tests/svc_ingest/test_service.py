"""The real process on a real nats-server: commands, settings, HTTP, kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from tests.kit.servers import free_port
from tests.svc_ingest.ingest_kit import at, shown, write_symbol

from qraft_contracts import headers
from qraft_contracts.times import format_instant
from qraft_frames.bars import decode_bars
from svc_ingest.__main__ import main

N = 900


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    write_symbol(folder, "BTCUSDT", range(N))
    write_symbol(folder, "ETHUSDT", [i for i in range(N) if i % 100])
    return folder


def environment(tmp_path: Path, dataset: Path, **extra: str) -> dict[str, str]:
    own = {"QRAFT_HOME": str(tmp_path / "home"), "QRAFT_INGEST_DATASET": str(dataset), "QRAFT_INGEST_SOURCE": "files"}
    return {name: value for name, value in os.environ.items() if not name.startswith("QRAFT_")} | own | extra


def test_load_prints_progress_as_json_lines_and_writes_the_report(tmp_path: Path, dataset: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "svc_ingest", "load", "--until", format_instant(at(499))],
        env=environment(tmp_path, dataset), capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert lines[0]["event"] == "ingest.progress" and lines[0]["done_frac"] == 1.0 and lines[0]["n_bars"] == 500
    assert lines[-1] == {
        "event": "ingest.loaded",
        "closed_at": format_instant(at(499)),
        "n_bars": 500,
        "origin": "replay",
        "source": "files dataset",
    }
    report = json.loads((tmp_path / "home/reports/ingest/load.crypto.5m.json").read_text())
    assert report["origin"] == "replay" and report["symbols"]["ETHUSDT"]["gap"] == 4
    assert '"source": "files dataset"' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "extra", "words"),
    [
        (["load", "--until", "soon"], {}, "--until"),
        (["load"], {"QRAFT_INGEST_DATASET": "nowhere"}, "no_dataset"),
        (["load"], {"QRAFT_INGEST_SPEED": "-1"}, "QRAFT_INGEST_SPEED"),
        (["load"], {"QRAFT_INGEST_SYMBOLS": "DOGE"}, "unknown_symbols"),
        (["load"], {"QRAFT_INGEST_REPLAY_FROM": "2025-06-01T00:00:00"}, "QRAFT_INGEST_REPLAY_FROM"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_code_2(
    tmp_path: Path, dataset: Path, arguments: list[str], extra: dict[str, str], words: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in environment(tmp_path, dataset, **extra).items():
        monkeypatch.setenv(name, value)

    try:
        code: int | str | None = main(arguments)
    except SystemExit as end:  # argparse's own
        code = end.code

    said = capsys.readouterr().err
    assert code == 2
    assert words in said and "Traceback" not in said


class Service:
    """A running service process."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "svc_ingest"], env=env | {"QRAFT_HTTP_PORT": str(self.port)}, stderr=file
            )

    def call(self, path: str, body: bytes | None = None) -> tuple[int, dict]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def wait(self, is_done, timeout_s: float = 90.0) -> dict:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                status, state = self.call("/api/replay")
            except OSError:
                status, state = 0, {}
            if status == 200 and is_done(state):
                return state
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def services() -> Iterator[list[Service]]:
    started: list[Service] = []
    yield started
    for service in started:
        if service.process.poll() is None:
            service.end(signal.SIGKILL)


async def stored_messages(url: str) -> list[tuple[str, bytes]]:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    state = (await jetstream.stream_info("BARS")).state
    found = []
    for seq in range(state.first_seq, state.last_seq + 1):
        message = await jetstream.get_msg("BARS", seq)
        found.append((message.headers[headers.MESSAGE_ID], message.data))
    await client.close()
    return found


@pytest.mark.nats
def test_replay_survives_kills_and_obeys_the_speed(
    tmp_path: Path, dataset: Path, nats_url: str, services: list[Service]
) -> None:
    env = environment(
        tmp_path, dataset, QRAFT_NATS_URL=nats_url, QRAFT_INGEST_REPLAY_FROM=format_instant(at(599)),
        QRAFT_INGEST_SPEED="200", QRAFT_INGEST_REPLAY_UNTIL=format_instant(at(899)),
    )  # fmt: skip
    log = tmp_path / "service.log"
    for n in (20, 120):
        services.append(Service(env, log))
        services[-1].wait(
            lambda state, n=n: state["as_of"] is not None and state["as_of"] >= format_instant(at(600 + n))
        )
        services[-1].end(signal.SIGKILL)

    services.append(Service(env, log))
    services[-1].wait(lambda state: state["n_bars"] >= 1)
    assert services[-1].call("/api/replay", b'{"speed": 0}')[1]["speed"] == 0
    state = services[-1].wait(lambda state: state["finished"])

    assert (
        state["origin"] == "replay" and state["source"] == "files dataset" and state["as_of"] == format_instant(at(899))
    )
    assert services[-1].call("/readyz")[0] == 200
    assert services[-1].call("/api/replay", b'{"speed": -1}')[1]["error"]["code"] == "bad_speed"
    assert services[-1].call("/api/replay", b"fast")[0] == 422
    assert services[-1].call("/api/quality")[1]["totals"]["impossible"] == 0
    found = asyncio.run(stored_messages(nats_url))
    assert [message_id for message_id, _ in found] == [
        f"bars.5m/crypto/{format_instant(at(i))}/r0" for i in range(600, 900)
    ]
    assert shown([decode_bars(found[0][1])]) == [(600, 0, {"BTCUSDT": 700.0})]
    assert services[-1].end(signal.SIGTERM) == 0
    assert "replay.finished" in log.read_text() and "Traceback" not in log.read_text()


@pytest.mark.nats
def test_simulator_is_taken_last_and_said_everywhere(
    tmp_path: Path, dataset: Path, nats_url: str, services: list[Service]
) -> None:
    env = environment(
        tmp_path, dataset, QRAFT_NATS_URL=nats_url, QRAFT_INGEST_SOURCE="auto",
        QRAFT_INGEST_DATASET=str(tmp_path / "nothing"), QRAFT_INGEST_EXCHANGE_URL="http://127.0.0.1:9",
        QRAFT_INGEST_SIMULATED_DAYS="1",
    )  # fmt: skip
    services.append(Service(env, tmp_path / "service.log"))

    state = services[-1].wait(lambda state: state["finished"])

    assert state["origin"] == "simulated" and "SIMULATED" in state["source"] and state["n_bars"] == 288
    log = (tmp_path / "service.log").read_text()
    assert log.count("source.unavailable") == 2 and '"origin": "simulated"' in log
    assert decode_bars(asyncio.run(stored_messages(nats_url))[0][1]).origin == "simulated"
