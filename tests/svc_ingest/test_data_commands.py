"""Audit, mend, show and snapshot as an operator runs them, on a small lake of made-up bars."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.libs.data.data_kit import put_rows

from qraft_contracts.origin import Origin
from qraft_data.library import DataLibrary
from qraft_frames.bars import BarBatch
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables
from svc_ingest.__main__ import main
from svc_ingest.api import data_commands

T0 = datetime(2025, 6, 1, tzinfo=UTC)
N_BARS = 2 * 288
QUERY = ("--market", "binance.perp", "--symbols", "BTCUSDT", "--fields", "bars.close,basis.basis_frac",
         "--from", "2025-06-01", "--until", "2025-06-03")  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home whose lake holds two days of spot and perpetual bars, and nothing else."""
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path))
    lake = ParquetLake(tmp_path / "lake")
    for market, shift in (("binance.spot", 0.0), ("binance.perp", 0.05)):
        lake.append([_bar(market, i, 100.0 + shift + np.sin(i / 50.0)) for i in range(N_BARS)])
    lake.close()
    return tmp_path


def _bar(market: str, i: int, price: float) -> BarBatch:
    end = T0 + timedelta(minutes=5 * (i + 1))
    values = [np.array([price + shift]) for shift in (0.0, 0.1, -0.1, 0.0)]
    return BarBatch(market, "5m", end, end, 0, Origin.REPLAY, ("BTCUSDT",), *values, np.array([1.0]))


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_audit_says_what_is_missing_and_exits_with_3(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["audit", "--days", "2"])

    captured = capsys.readouterr()
    assert code == 3
    assert events(captured.out)[-1] | {"report": ""} == {
        "event": "audit.finished", "ready": False, "n_ready": 1, "n_required": 4, "report": "",
    }  # fmt: skip
    assert "qraft data collect --source derived --kind basis" in captured.err
    assert (home / "reports" / "data" / "audit.html").read_text().count("未就绪") >= 3


def test_mend_runs_what_the_audit_named_and_audits_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = DataLibrary(ParquetLake(home / "lake"), ParquetTables(home / "lake"))
    hours = [T0 + timedelta(hours=i + 1) for i in range(48)]
    funding = {"symbol": "BTCUSDT", "funding_rate": 1e-4, "period_hours": 1.0}
    put_rows(library, "funding", [funding | {"event_at": it} for it in hours])
    put_rows(
        library, "open_interest", [{"symbol": "BTCUSDT", "event_at": it, "open_interest_usd": 1e9} for it in hours]
    )
    library.tables.close()
    assert main(["audit", "--days", "2"]) == 3

    code = main(["mend"])

    ran = {it["command"]: it["exit_code"] for it in events(capsys.readouterr().out) if it["event"] == "mend.ran"}
    span = "--from 2025-06-01T00:00:00Z --until 2025-06-03T00:00:00Z"
    assert ran == {f"qraft data collect --source derived --kind basis {span}": 0}
    assert code == 0
    audit = json.loads((home / "reports" / "data" / "audit.json").read_text())
    assert {it["kind"]: it["verdict"] for it in audit["series"] if it["is_required"]} == dict.fromkeys(
        ("bars", "basis", "funding", "open_interest"), "ready"
    )


def test_mend_tells_how_many_commands_are_left_and_how_to_go_on(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_commands, "MEND_COMMANDS_MAX", 1)
    assert main(["audit", "--days", "2"]) == 3  # basis, funding and open interest are missing
    capsys.readouterr()

    assert main(["mend"]) == 3

    captured = capsys.readouterr()
    finished = events(captured.out)[-1]
    assert (finished["event"], finished["n_commands_left"]) == ("mend.finished", 2)
    assert finished["n_rows_mended"] > 0 and "qraft data mend --skip 1" in captured.err


def test_mend_without_an_audit_says_what_to_do(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mend"]) == 2
    assert "no_audit" in capsys.readouterr().err


def test_snapshot_is_verified_until_a_byte_changes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["collect", "--source", "derived", "--kind", "basis"])
    capsys.readouterr()
    assert main(["snapshot", *QUERY]) == 0
    (taken,) = events(capsys.readouterr().out)
    assert main(["snapshot", *QUERY]) == 0
    assert events(capsys.readouterr().out) == [taken]
    assert main(["snapshot", "--verify", taken["snapshot_id"]]) == 0

    (data,) = (home / "artefacts" / "snapshots" / taken["snapshot_id"]).glob("*.parquet")
    written = bytearray(data.read_bytes())
    written[len(written) // 2] ^= 0xFF
    data.write_bytes(written)

    assert main(["snapshot", "--verify", taken["snapshot_id"]]) == 3


def test_show_prints_what_was_known_then(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["show", *QUERY[:4], "--fields", "bars.close", *QUERY[6:], "--as-of", "2025-06-01T00:10:00Z"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].split("\t")[-1] == "bars.close"
    assert [line.split("\t")[-1] != "" for line in lines[1:4]] != []
    assert lines[-1].split("\t")[-1] == ""  # the newest rows were not known then


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", *QUERY[:4], "--fields", "bars.klose", *QUERY[6:]], "bars.open, bars.high"),
        (["snapshot", "--market", "binance.perp"], "--symbols"),
        (["snapshot", "--verify", "0" * 64], "no_snapshot"),
        (["audit", "--market", "nowhere"], "binance.perp"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err
