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
TITLES = (
    "exchange was hacked by thieves", "regulator sues large broker", "miners sell their coins",
    "new listing announced today", "bank opens custody desk",
)  # fmt: skip
OTHERS = ("doge rallies hard", "ether looks weak", "solana is amazing", "traders are afraid", "fees went down")


def post(at: timedelta, text: str, **other) -> dict:
    return {"event_at": T0 + at, "row_id": text, "platform": "x", "text": text, "is_comment": False, **other}


def news(at: timedelta, title: str, **other) -> dict:
    return {"event_at": T0 + at, "row_id": title, "publisher": "wire", "category": "other", "title": title, **other}


FIRST = [post(i * HOUR, f"bitcoin to the moon says {name}") for i, name in enumerate(NAMES)]


@pytest.fixture
def lake() -> Lake:
    made = Lake()
    made.put("posts", "twitter", *FIRST)
    return made


def _rows(lake: Lake, symbol: str = "BTCUSDT") -> list[dict]:
    return [row for row in lake.rows("text_state", TEXT_MARKET) if row["symbol"] == symbol]


def test_buckets_of_posts_become_state_beside_bars_and_stay_as_they_are(lake: Lake) -> None:
    first, second = lake.derive("text_state"), lake.derive("text_state")

    rows = _rows(lake)
    assert first.total().n_new == len(rows) == 4 * 12 and first.failures == []
    assert rows[0]["event_at"] == T0 + HOUR  # before, an hour was not heard whole
    assert rows[-1]["event_at"] == T0 + 5 * HOUR - 5 * MINUTE  # the last text is of a bucket that was not over then
    assert all(row["known_at"] == row["event_at"] and row["source"] == "derived:posts" for row in rows)
    assert (second.total().n_new, second.total().n_repeated) == (0, len(rows))

    at = np.array([micros_of(T0 + 3 * HOUR), micros_of(T0 + 5 * HOUR)])
    found = read_state(
        lake.tables, market="binance.perp", symbols=("BTCUSDT", "XRPUSDT"), at_us=at, as_of=T0 + 9 * HOUR
    )
    assert found.values["text_heat"][0, 0] == pytest.approx(np.log(2), rel=1e-6)
    assert np.isfinite(found.values["text_sentiment"][:, 0]).all()
    assert "news_heat" not in found.values and "text_heat_24h" not in found.values
    assert np.isnan(found.values["text_heat"][:, 1]).all()


def test_texts_about_a_whole_market_count_for_symbols_with_bars(lake: Lake) -> None:
    lake.put("news", "news", *(news(n * 9 * HOUR, title, symbol="CRYPTO") for n, title in enumerate(TITLES)))
    prices = [np.array([1.0, 1.0])] * 5
    lake.bars.append([BarBatch("crypto", "5m", T0, T0, 0, Origin.REPLAY, ("SOLUSDT", "SWTBTC"), *prices)])

    lake.derive("text_state")

    assert {row["symbol"] for row in lake.rows("text_state", TEXT_MARKET)} == {"BTCUSDT", "SOLUSDT"}
    # Posts were last heard at 5 hours; a day on nothing is known of them, and news go on.
    assert _rows(lake, "SOLUSDT")[0]["event_at"] == T0 + 29 * HOUR + 5 * MINUTE


def test_posts_that_come_after_news_of_later_are_never_stored_as_none(lake: Lake) -> None:
    """A feed that was not heard says nothing, not that nobody wrote: its buckets wait."""
    lake.put("news", "news", *(news((2 + 9 * n) * HOUR, title) for n, title in enumerate(TITLES)))
    lake.derive("text_state")
    early = {row["event_at"] for row in _rows(lake)}
    later = [post(8 * HOUR + n * HOUR, f"{title} says everybody") for n, title in enumerate(OTHERS)]
    lake.put("posts", "twitter", *later)

    again = lake.derive("text_state")

    rows, until = {row["event_at"]: row for row in _rows(lake)}, T0 + 12 * HOUR
    assert early == {T0 + n * 5 * MINUTE for n in (*range(12, 60), *range(29 * 12 + 1, 38 * 12))}
    assert again.total().n_new == len([at for at in rows if at not in early]) == 7 * 12
    whole = Lake()
    whole.put("posts", "twitter", *FIRST, *later)
    whole.put("news", "news", *(news((2 + 9 * n) * HOUR, title) for n, title in enumerate(TITLES)))
    whole.derive("text_state")
    expected = {row["event_at"]: row for row in _rows(whole)}
    assert {at: row for at, row in rows.items() if at < until} == {at: r for at, r in expected.items() if at < until}
    assert rows[T0 + 9 * HOUR]["posts_heat_1h"] == pytest.approx(np.log(2), rel=1e-6)
    assert all(row["posts_heat_1h"] is None and row["news_heat_24h"] for at, row in rows.items() if at > until)


def test_one_run_over_everything_gives_the_rows_of_runs_as_texts_come() -> None:
    of_posts, of_news = [*range(0, 30, 2), *range(61, 90, 2)], range(0, 90, 5)  # posts are silent for 33 hours
    texts = [("posts", "twitter", n, post(n * HOUR, f"{_words(n)} number")) for n in of_posts]
    texts += [("news", "wire", n, news(n * HOUR, _words(n + 100))) for n in of_news]
    whole, steps = Lake(), Lake()
    before = -1
    for until in (20, 33, 58, 64, 90):
        for kind, market, n, row in texts:
            if before < n <= until:
                whole.put(kind, market, row)
                steps.put(kind, market, row)
        steps.derive("text_state")
        before = until

    whole.derive("text_state")

    assert _rows(steps) == _rows(whole) and len(_rows(whole)) > 70 * 12


def _words(number: int) -> str:
    """Return one of many texts that resemble each other in nothing."""
    return " ".join(np.random.default_rng(number).choice(" ".join((*TITLES, *OTHERS)).split(), 6, replace=False))


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
