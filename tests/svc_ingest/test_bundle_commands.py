"""Bundle, verify, import and tier as an operator runs them, and real collected data through a bundle and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.libs.data.bundle.bundle_kit import (
    END,
    PERP,
    SOURCES,
    bar,
    fill,
    lake_stores,
    memory_stores,
    put,
    row,
    take,
    versions,
)

from qraft_data.bundle.create import Asked, make_bundle
from qraft_data.bundle.judged import AuditAsked
from qraft_data.bundle.manifest import Selection
from qraft_data.bundle.sources import Stores, sources_of
from qraft_runtime.clock import SystemClock
from svc_ingest.__main__ import main
from svc_ingest.adapters.catalogue import OURS, read_catalogue
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.adapters.readers import FileReader
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Collector
from svc_ingest.usecases.collect import Selection as Wanted

DAYS = ("--days", "4")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home whose lake passes an audit of four days."""
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path / "home"))
    with lake_stores(tmp_path / "home" / "lake") as stores:
        fill(stores)
    return tmp_path / "home"


def said(capsys: pytest.CaptureFixture[str], event: str) -> dict[str, Any]:
    """Return the last event of a name that was printed."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] == event][-1]


def test_bundle_is_made_verified_and_imported_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.tar"

    assert main(["bundle", "--out", str(path), *DAYS]) == 0
    made = said(capsys, "bundle.made")
    assert made["is_green"] and made["n_bytes"] == path.stat().st_size
    assert main(["verify", str(path), "--expect", made["bundle_id"]]) == 0
    assert said(capsys, "bundle.verified")["is_intact"]
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path / "there"))
    assert main(["import", str(path), "--dry-run"]) == 0
    assert said(capsys, "import.finished")["n_new"] == made["n_rows"]
    assert main(["import", str(path)]) == 0
    done = said(capsys, "import.finished")

    assert (done["n_new"], done["n_same_version"]) == (made["n_rows"], len(SOURCES))
    assert done["other_versions"] == done["audit_differs"] == []
    assert main(["import", str(path)]) == 0
    assert said(capsys, "import.finished")["n_new"] == 0
    with lake_stores(tmp_path / "there" / "lake") as there, lake_stores(home / "lake") as here:
        assert versions(there) == versions(here)
    assert main(["verify"]) == 0
    assert said(capsys, "lake.verified")["n_damages"] == 0


def test_lake_that_is_not_green_needs_to_be_allowed_and_the_import_says_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "part.tar"
    words = ["bundle", "--out", str(path), "--kind", "funding", "--from", "2025-05-31", *DAYS]

    assert main(words) == 2
    assert "audit_not_green" in capsys.readouterr().err
    assert main([*words, "--allow-gaps"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path / "there"))
    assert main(["import", str(path)]) == 0

    captured = capsys.readouterr()
    assert "NOT green" in captured.err and "nothing of bars is stored" in captured.err
    assert '"is_green": false' in captured.out


def test_tampered_bundle_is_named_by_verify_and_refused_by_import(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.tar"
    main(["bundle", "--out", str(path), *DAYS])
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    capsys.readouterr()

    assert main(["verify", str(path)]) == 3
    assert "expected a whole bundle" in said(capsys, "bundle.verified")["detail"]
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path / "there"))
    assert main(["import", str(path)]) == 2
    assert "damaged_bundle" in capsys.readouterr().err
    assert not list((tmp_path / "there").rglob("*.parquet"))
    assert main(["verify", str(tmp_path / "nowhere.tar")]) == 3


def test_damaged_lake_is_named_by_verify(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((home / "lake" / "tables" / "funding" / PERP).glob("*=*/*.parquet"))
    path.write_bytes(path.read_bytes()[:-20])

    assert main(["verify"]) == 3
    assert f"DAMAGED: {path}" in capsys.readouterr().err


def test_import_that_contradicts_what_is_stored_says_the_row(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.tar"
    main(["bundle", "--out", str(path), *DAYS])
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path / "there"))
    with lake_stores(tmp_path / "there" / "lake") as there:
        put(
            there,
            "macro",
            [row("macro", datetime(2023, 1, 1, tzinfo=UTC), symbol="VIX", value=77.0)],
            market="us.macro",
        )
    capsys.readouterr()

    assert main(["import", str(path)]) == 2
    assert "VIX 2023-01-01T00:00:00Z revision 0: value 10.0 in the bundle, 77.0 stored" in capsys.readouterr().err


def test_tier_moves_what_is_older_than_the_hot_days_of_each_series(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tier"]) == 2
    assert "QRAFT_LAKE_COLD" in capsys.readouterr().err
    with lake_stores(home / "lake") as stores:
        before = versions(stores)
    monkeypatch.setenv("QRAFT_LAKE_COLD", str(tmp_path / "cold"))
    monkeypatch.setenv("QRAFT_LAKE_HOT_DAYS", "2")

    assert main(["tier"]) == 0
    assert said(capsys, "tier.finished")["n_bytes"] > 0
    assert main(["tier"]) == 0
    assert said(capsys, "tier.finished") == {"event": "tier.finished", "n_bytes": 0, "locked": []}

    cold = {path.parent.name for path in (tmp_path / "cold").rglob("*.parquet")}
    assert {"date=2025-05-30", "year=2023", "date=2025-04-20"} <= cold and "date=2025-06-02" not in cold
    assert main(["bundle", "--out", str(tmp_path / "all.tar"), *DAYS]) == 0
    take(there := memory_stores(), tmp_path / "all.tar")
    assert versions(there) == before
    assert main(["verify"]) == 0
    monkeypatch.delenv("QRAFT_LAKE_COLD")
    assert main(["verify"]) == 1


def test_series_that_another_process_writes_is_left_and_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QRAFT_LAKE_COLD", str(tmp_path / "cold"))
    monkeypatch.setenv("QRAFT_LAKE_HOT_DAYS", "1")
    with lake_stores(home / "lake") as writer:
        writer.bars.append([bar(END + timedelta(minutes=5), 100.0)])
        code = main(["tier"])

    assert code == 1
    assert said(capsys, "tier.finished")["locked"] == [f"bars/5m/{PERP}"]


# Lists and ids, bars of many days, several venues, a daily series; the whole lake was carried by hand.
DATASETS = ("funding_multi_venue_2025", "perp_1h_2025", "vix")


def collected(data: Path, root: Path, stores: Stores) -> Stores:
    """Collect real files into empty stores."""
    tally = Tally()
    collector = Collector(read_catalogue(OURS), data, FileReader(), stores.bars, stores.tables, LakeRecord(root),
                          SystemClock(), lambda *_: None)  # fmt: skip
    collector.collect(Wanted(datasets=DATASETS), tally)
    assert tally.failures == [] and tally.total().n_new > 30_000
    return stores


@pytest.mark.data
def test_real_data_read_the_same_as_of_any_time_behind_the_gap(qraft_data: Path, tmp_path: Path) -> None:
    asked = Asked(
        Selection(), AuditAsked(mode="production", market="bittrex.spot", interval="5m", days=9), allows_gaps=True
    )
    with lake_stores(tmp_path / "here") as here, lake_stores(tmp_path / "there") as there:
        collected(qraft_data, tmp_path / "record", here)
        make_bundle(here, asked, tmp_path / "real.tar", on_step=lambda *_: None)

        done = take(there, tmp_path / "real.tar")

        assert done.n_repeated == 0 and all(left == right for left, right in done.versions.values())
        sources = sources_of(here, Selection())
        assert len(sources) > 5
        for source in sources:
            rows = here.rows(source, first_us=-(10**16), last_us=7 * 10**15)
            known = rows["known_at"].to_pylist()
            for as_of in (known[0], known[len(known) // 2], max(known)):
                left, right = (as_known(it, source, as_of) for it in (here, there))
                assert left.equals(right), (source, as_of)


def as_known(stores: Stores, source: Any, as_of: datetime) -> pa.Table:
    """Return what a reader saw then: the newest revision known of each row."""
    if source.kind == "bars":
        return stores.rows(source, first_us=-(10**16), last_us=7 * 10**15, as_of=as_of)
    return stores.tables.read(source.kind, market=source.market, symbols=None, start=datetime(1900, 1, 2, tzinfo=UTC),
                              end=as_of, as_of=as_of)  # fmt: skip
