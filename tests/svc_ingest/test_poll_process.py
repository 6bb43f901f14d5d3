"""The service on an exchange: its bars go out while other kinds are polled, and also when every other kind fails."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.svc_ingest.binance_server import STEP_MS, Futures, Venue, serve_binance
from tests.svc_ingest.test_backfill import funding, stamps
from tests.svc_ingest.test_service import Service, environment, services, stored_messages  # noqa: F401 the fixture

from qraft_contracts.outcomes import Malformed
from qraft_frames.bars import decode_bars
from qraft_runtime.clock import SystemClock
from qraft_runtime.health import Health
from qraft_runtime.settings import CommonSettings
from svc_ingest.adapters.files import FileSource
from svc_ingest.adapters.late_rows import ReadMark
from svc_ingest.app import poller_of
from svc_ingest.settings import IngestSettings

N_BARS = 400


@pytest.fixture
def venue() -> Iterator[Venue]:
    """Serve a venue with the last day and a half up to now."""
    now_ms = int(time.time() * 1000)
    first_ms = now_ms // STEP_MS * STEP_MS - N_BARS * STEP_MS
    interest = [
        {"symbol": "BTCUSDT", "sumOpenInterest": "1000", "sumOpenInterestValue": "1e8", "timestamp": t}
        for t in stamps(N_BARS, STEP_MS, until_ms=now_ms // STEP_MS * STEP_MS)
    ]
    eight = 8 * 3_600_000
    rows = {
        "/futures/data/globalLongShortAccountRatio": [{"timestamp": row["timestamp"]} for row in interest],
        "/futures/data/openInterestHist": interest,
        "/fapi/v1/aggTrades": [
            {"a": i, "p": "100.0", "q": "1.0", "f": i, "l": i, "T": now_ms - 1_000_000 + i * 10_000, "m": i % 3 == 0}
            for i in range(100)
        ],
        "/fapi/v1/fundingRate": funding(stamps(9, eight, until_ms=now_ms // eight * eight)),
    }
    closes = {"BTCUSDT": [100.0 + i % 7 for i in range(N_BARS + 1)]}
    with serve_binance(Venue(first_ms, closes, futures=Futures(rows, now_ms), perp_shift=0.5)) as venue:
        yield venue


def feeds_of(service: Service) -> dict[str, dict]:
    return {f"{it['kind']} {it['market']}": it for it in service.call("/api/feeds")[1]["feeds"]}


@pytest.mark.nats
def test_bars_go_out_while_feeds_are_polled_and_a_restart_stores_nothing_twice(
    tmp_path: Path,
    nats_url: str,
    venue: Venue,
    services: list[Service],  # noqa: F811
) -> None:
    env = environment(
        tmp_path, tmp_path, QRAFT_NATS_URL=nats_url, QRAFT_INGEST_SOURCE="exchange", QRAFT_INGEST_HISTORY_DAYS="1",
        QRAFT_INGEST_EXCHANGE_URL=venue.url, QRAFT_INGEST_SYMBOLS="BTCUSDT",
    )  # fmt: skip
    log = tmp_path / "service.log"
    services.append(Service(env, log))
    wanted = {"open_interest binance.perp", "funding binance.perp", "basis binance.perp", "bars binance.spot",
              "trade_flow binance.perp", "mark_premium binance.perp"}  # fmt: skip

    def is_fed(_state: dict) -> bool:
        found = feeds_of(services[-1])
        return wanted <= {name for name, it in found.items() if it["newest"] is not None}

    services[-1].wait(lambda state: state["n_bars"] >= 1 and is_fed(state))
    first = feeds_of(services[-1])
    ready, report = services[-1].call("/readyz")
    services[-1].end(signal.SIGKILL)
    services.append(Service(env, log))
    services[-1].wait(is_fed)
    second = feeds_of(services[-1])

    assert ready == 200 and report["feed open_interest binance.perp"] == "fresh" and report["bars"] == "ready"
    assert first["open_interest binance.perp"]["n_new"] > 280 and first["basis binance.perp"]["n_new"] > 280
    assert second["open_interest binance.perp"]["n_new"] <= 1 >= second["basis binance.perp"]["n_new"]
    assert all(it["n_quarantined"] == 0 for it in (*first.values(), *second.values()))
    # The venue changed the form of the long/short ratios: that feed's trouble, told by name, and no one else's.
    assert "schema_drift" in second["long_short binance.perp"]["problem"]
    assert second["long_short binance.perp"]["stale"] == ["BTCUSDT"]
    messages = asyncio.run(stored_messages(nats_url))
    state = decode_bars(messages[0][1]).state
    assert np.isfinite([float(state[name][0]) for name in ("n_trades", "mark_premium_frac", "basis_frac")]).all()
    assert "Traceback" not in log.read_text()
    assert services[-1].end(signal.SIGTERM) == 0


def test_polling_is_on_beside_a_living_exchange_only(tmp_path: Path) -> None:
    source = FileSource(tmp_path, interval="5m")
    wiring = {"clock": SystemClock(), "health": Health(), "mark": ReadMark()}
    common = CommonSettings(home=tmp_path)

    assert poller_of(common, IngestSettings(), source, **wiring).background == ()
    with pytest.raises(Malformed, match="poll_without_live_bars"):
        poller_of(common, IngestSettings(poll=True), source, **wiring)


def test_feeds_are_told_as_json(tmp_path: Path) -> None:
    from svc_ingest.domain.polling import FeedState

    state = FeedState("funding", "binance.perp", newest_us={"BTCUSDT": 1_748_736_000_000_000, "ETHUSDT": 0})

    told = state.as_dict(1_748_736_000_000_000 + 11 * 3_600_000_000)

    assert (told["newest"], told["stale"], told["age_s"]) == ("2025-06-01T00:00:00Z", ["BTCUSDT", "ETHUSDT"], None)
    assert json.loads(json.dumps(told)) == told
