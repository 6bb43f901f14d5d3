"""What is said of a symbol worked out of stored texts: rows, when they are known, and what is told of failures."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.svc_ingest.collect_kit import T0
from tests.svc_ingest.test_derive_flows import HOUR, MINUTE, Lake

from qraft_contracts.kinds import TEXT_MARKET
from qraft_contracts.origin import Origin
from qraft_data.state import read_state
from qraft_frames.bars import BarBatch
from qraft_runtime.clock import FixedClock
from qraft_text.lexicon import SLANG
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.domain.raw import micros_of
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derive import Deriver
from svc_ingest.usecases.kept_live import KeptLive

NAMES = ("ann", "bob", "cora", "dan", "eve", "finn")


def post(at: timedelta, text: str, **other) -> dict:
    return {"event_at": T0 + at, "row_id": text, "platform": "x", "text": text, "is_comment": False, **other}


@pytest.fixture
def lake() -> Lake:
    made = Lake()
    made.put("posts", "twitter", *(post(i * HOUR, f"bitcoin to the moon says {name}") for i, name in enumerate(NAMES)))
    return made


def _rows(lake: Lake, symbol: str = "BTCUSDT") -> list[dict]:
    return [row for row in lake.rows("text_state", TEXT_MARKET) if row["symbol"] == symbol]


def test_buckets_of_posts_become_state_beside_bars_and_stay_as_they_are(lake: Lake) -> None:
    first, second = lake.derive("text_state"), lake.derive("text_state")

    rows = _rows(lake)
    assert first.total().n_new == len(rows) == 5 * 12 - 1 and first.failures == []
    assert rows[0]["event_at"] == T0 + 5 * MINUTE
    assert rows[-1]["event_at"] == T0 + 5 * HOUR - 5 * MINUTE  # the last text is of a bucket that was not over then
    assert all(row["known_at"] == row["event_at"] and row["source"] == "derived:posts" for row in rows)
    assert (second.total().n_new, second.total().n_repeated) == (0, len(rows))

    at = np.array([micros_of(T0 + 3 * HOUR), micros_of(T0 + 5 * HOUR)])
    found = read_state(
        lake.tables, market="binance.perp", symbols=("BTCUSDT", "XRPUSDT"), at_us=at, as_of=T0 + 9 * HOUR
    )
    assert found.values["text_heat_24h"][0, 0] == pytest.approx(np.log(5), rel=1e-6)
    assert np.isfinite(found.values["text_sentiment"][:, 0]).all() and "news_heat" not in found.values
    assert np.isnan(found.values["text_heat"][:, 1]).all()


def test_texts_about_a_whole_market_count_for_symbols_with_bars(lake: Lake) -> None:
    wide = {"symbol": "CRYPTO", "publisher": "wire", "category": "other", "title": "a rally of all coins"}
    lake.put("news", "news", wide | {"event_at": T0 + HOUR, "row_id": "n"})
    prices = [np.array([1.0, 1.0])] * 5
    lake.bars.append([BarBatch("crypto", "5m", T0, T0, 0, Origin.REPLAY, ("SOLUSDT", "SWTBTC"), *prices)])

    lake.derive("text_state")

    assert {row["symbol"] for row in lake.rows("text_state", TEXT_MARKET)} == {"BTCUSDT", "SOLUSDT"}
    assert _rows(lake, "SOLUSDT")[0]["event_at"] == T0 + HOUR


def test_what_is_derived_beside_a_running_line_is_known_when_it_was_derived(lake: Lake, tmp_path: Path) -> None:
    record, now = LakeRecord(tmp_path), T0 + 12 * HOUR
    record.set_live(T0 + 2 * HOUR)

    Deriver(lake.bars, lake.tables, KeptLive(FixedClock(now), record)).derive(Selection(kinds=("text_state",)), Tally())

    known: dict[datetime, datetime] = {row["event_at"]: row["known_at"] for row in _rows(lake)}
    assert known[T0 + 2 * HOUR] == T0 + 2 * HOUR and known[T0 + 2 * HOUR + 5 * MINUTE] == now


def test_texts_that_cannot_be_taken_are_told_and_other_kinds_are_derived(lake: Lake, monkeypatch) -> None:
    monkeypatch.setitem(SLANG, "moon", 1.0)  # another pipeline than the contract names
    of_us = {"name": "CPI", "category": "macro", "symbol": "US"}
    lake.put("events", "us.macro", *(of_us | {"event_at": T0 + n * HOUR, "row_id": str(n)} for n in (0, 25)))

    tally = lake.derive()

    assert [(it.where, it.code) for it in tally.failures] == [("derived:posts", "Refused")]
    assert _rows(lake) == [] and lake.rows("event_density", "us.macro")
