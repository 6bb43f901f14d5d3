"""`collect --source derived` beside a living line, which holds the tables it writes: the others are derived."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tests.svc_ingest.collect_kit import T0
from tests.svc_ingest.test_derive_flows import MINUTE, Lake, trade

from qraft_contracts.kinds import STATE_INPUTS
from qraft_contracts.outcomes import Malformed
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.lake import ParquetTables
from svc_ingest.app import collect
from svc_ingest.domain.tally import Tally
from svc_ingest.settings import IngestSettings
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derive import Deriver

SERIES = next(it for it in STATE_INPUTS.values() if it.kind == "series_state")
FLOW = {"event_at": T0, "n_trades": 1.0, "n_taker_buys": 1.0, "notional": 1.0, "taker_buy_notional": 1.0}


def put_all(tables: ParquetTables) -> None:
    """Store trades of two markets and a series, of which three tables can be derived."""
    lake = Lake()
    lake.tables = tables
    for market in ("binance.perp", "bybit.perp"):
        lake.put("trades", market, *(trade(i, i * MINUTE, buys=True) for i in range(1, 18)))
    days = [T0 + timedelta(days=i - 100) for i in range(100)]
    kind = "macro" if "macro" in SERIES.market else "onchain"
    rows = [{"event_at": day, "symbol": SERIES.symbol, "value": float(i % 7)} for i, day in enumerate(days)]
    lake.put(kind, SERIES.market, *rows)


def test_table_that_a_line_holds_is_named_and_every_other_is_derived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = CommonSettings(home=tmp_path, nats_url="nats://unused")
    tables = ParquetTables(common.lake)
    put_all(tables)
    tables.close()
    line = Lake()
    line.tables = ParquetTables(common.lake)
    line.put("trade_flow", "binance.perp", FLOW)

    codes = [collect(common, IngestSettings(), source="derived", selection=Selection())]
    beside = json.loads((tmp_path / "reports/ingest/collect.derived.json").read_text())
    line.tables.close()
    codes.append(collect(common, IngestSettings(), source="derived", selection=Selection()))
    after = json.loads((tmp_path / "reports/ingest/collect.derived.json").read_text())

    def made(report: dict) -> dict:
        return {(it["kind"], it["market"]): it["new"] for it in report["tables"] if it["new"]}

    capsys.readouterr()
    assert codes == [1, 0] and not after["failures"]
    assert ("derived:trade_flow binance.perp", "lake_locked") in [
        (it["where"], it["code"]) for it in beside["failures"]
    ]
    assert made(beside) == {
        ("series_state", SERIES.market): 41, ("taker_volume", "binance.perp"): 2, ("taker_volume", "bybit.perp"): 2,
        ("trade_flow", "bybit.perp"): 2,
    }  # fmt: skip
    assert made(after) == {("trade_flow", "binance.perp"): 2}


def test_kind_whose_source_is_damaged_is_named_and_the_others_are_derived(tmp_path: Path) -> None:
    tables = ParquetTables(tmp_path)
    put_all(tables)
    for path in (tmp_path / "tables/trades").rglob("*.parquet"):
        path.write_bytes(b"PAR1 no more")
    tally = Tally()

    with pytest.raises(Malformed):
        Deriver(MemoryBarStore(), tables).derive(Selection(), tally)
    tables.close()

    assert [it.where for it in tally.failures] == ["derived:taker_volume, trade_flow"]
    assert {kind for _, kind, _ in tally.counts} == {"series_state"}
