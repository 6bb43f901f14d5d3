"""Kinds worked out of others: each number by hand, and what may not be known."""

from __future__ import annotations

import gzip
import json
import math
import statistics

import numpy as np
import pytest

from qraft_quant.derived import (
    BestQuotes,
    DepthBook,
    LevelRow,
    depth_states,
    event_density,
    liquidation_flow,
    mark_premium,
    quote_states,
    series_state,
    trade_flow,
)

STEP = 300_000_000
S = 1_000_000
T0 = 5_000_000 * STEP  # on the grid


def quotes(*rows):
    """Return quotes: (known, bid, bid quantity, ask, ask quantity) each."""
    known, *columns = (np.array(column) for column in zip(*rows, strict=True))
    return BestQuotes(known.astype(np.int64), *(column.astype(float) for column in columns))


def alive(*, until, start=T0 - 30 * S, row=(99.0, 4.0, 101.0, 4.0)):
    """Return one quote every 30 s."""
    return [(at, *row) for at in range(start, until + 1, 30 * S)]


def levels(known, ids, *, bids=(), asks=(), is_snapshot=False):
    sides = [np.array([level[i] for level in side], dtype=float) for side in (bids, asks) for i in (0, 1)]
    return LevelRow(known, is_snapshot, *ids, *sides)


def test_state_of_the_best_quotes_by_hand():
    found = quote_states(quotes((T0 + STEP - 5, 99.0, 3.0, 101.0, 1.0)), ends=np.array([T0 + STEP]), step_us=STEP)

    assert found.spread_frac.tolist() == [0.02]
    assert found.microprice_frac[0] == pytest.approx((99.0 * 1 + 101.0 * 3) / 4 / 100 - 1)  # 100.5, towards the ask
    assert found.queue_imbalance.tolist() == [0.5]


def test_order_flow_adds_what_joins_the_bid_and_what_leaves_the_ask():
    end = T0 + STEP
    steady = alive(until=end - 40 * S)
    moves = [
        (end - 35 * S, 99.0, 6.0, 101.0, 4.0),  # the bid grows by 2: +2
        (end - 25 * S, 99.5, 1.0, 101.0, 3.0),  # a better bid of 1: +1; the ask shrinks by 1: +1
        (end - 15 * S, 98.0, 5.0, 100.0, 2.0),  # the bid of 1 is gone: -1; a better ask of 2: -2
    ]
    found = quote_states(quotes(*steady, *moves), ends=np.array([end]), step_us=STEP)

    sizes = [4.0] * (len(steady) - 2) + [5.0, 2.0, 3.5]  # two of the steady ones stand at or before the start
    assert found.order_flow_imbalance[0] == pytest.approx((2 + 2 - 3) / statistics.mean(sizes))


def test_a_silent_or_crossed_feed_is_not_known():
    end = T0 + STEP
    silent = quotes(*alive(until=T0 + 60 * S), *alive(start=T0 + 121 * S, until=end))
    late = quotes(*alive(until=end - 61 * S))
    begun = quotes(*alive(start=T0 + 1, until=end))
    crossed = quotes(*alive(until=end - 1), (end, 102.0, 1.0, 101.0, 1.0))
    found = [quote_states(it, ends=np.array([end]), step_us=STEP) for it in (silent, late, begun, crossed)]

    assert [math.isnan(it.order_flow_imbalance[0]) for it in found] == [True] * 4
    assert [math.isnan(it.spread_frac[0]) for it in found] == [False, True, False, True]
    assert not math.isnan(quote_states(quotes(*alive(until=end)), ends=np.array([end]), step_us=STEP)
                          .order_flow_imbalance[0])  # fmt: skip


def test_later_quotes_never_change_a_state():
    ends = T0 + STEP * np.arange(1, 4)
    rng = np.random.default_rng(3)
    known = np.sort(rng.integers(T0 - STEP, T0 + 4 * STEP, 900))
    rows = quotes(*((at, *rng.uniform(1, 9, 2), *rng.uniform(9, 20, 2)) for at in known))
    whole = quote_states(rows, ends=ends, step_us=STEP)
    later = known > ends[1]
    changed = BestQuotes(rows.known_us, *(np.where(later, 7.0 * x, x) for x in (
        rows.bid_px, rows.bid_qty, rows.ask_px, rows.ask_qty)))  # fmt: skip
    again = quote_states(changed, ends=ends, step_us=STEP)

    for name in ("spread_frac", "microprice_frac", "queue_imbalance", "order_flow_imbalance"):
        assert getattr(whole, name)[:2].tobytes() == getattr(again, name)[:2].tobytes()
        assert np.isfinite(getattr(whole, name)[:2]).all()
    assert whole.order_flow_imbalance[2] != again.order_flow_imbalance[2]


def test_a_rebuilt_book_has_the_depth_of_its_messages():
    bids = [(100.0 - i, 1.0 + i) for i in range(7)]
    asks = [(101.0 + i, 2.0) for i in range(7)]
    rows = [
        levels(T0, (10, 10), bids=bids, asks=asks, is_snapshot=True),
        levels(T0 + 1, (8, 10), bids=[(99.0, 9.0)]),  # held by the snapshot already
        levels(T0 + 2, (9, 11), bids=[(100.0, 3.0), (100.95, 4.0)], asks=[(101.0, 0.0), (101.05, 5.0)]),
        levels(T0 + STEP, (12, 12), bids=[(100.95, 0.0)]),
    ]
    book = DepthBook(is_numbered=True)

    (depth,) = depth_states(book, rows[:3], ends=np.array([T0 + 10]))
    assert depth is not None
    bid_qty, ask_qty = 4.0 + 3.0 + 2.0 + 3.0 + 4.0, 5.0 + 2.0 * 4
    assert depth.imbalance == pytest.approx((bid_qty - ask_qty) / (bid_qty + ask_qty))
    # The mid is 101, a thousandth of it 0.101: from 100.899 to 101.101.
    assert (depth.bid, depth.ask) == (pytest.approx(100.95 * 4), pytest.approx(101.05 * 5))

    first, second = depth_states(book, rows[3:], ends=np.array([T0 + STEP - 1, T0 + STEP]))
    assert first is None  # the feed was silent for 60 s
    assert second is not None and second.bid == 0.0


@pytest.mark.parametrize(
    ("is_numbered", "update", "is_known"),
    [
        (True, levels(T0 + S, (11, 12), bids=[(99.0, 1.0)]), True),
        (True, levels(T0 + S, (12, 13), bids=[(99.0, 1.0)]), False),  # 11 is missing
        (False, levels(T0 + S, (12, 13), bids=[(99.0, 1.0)]), True),
        (False, levels(T0 + 61 * S, (11, 13), bids=[(99.0, 1.0)]), False),
        (False, levels(T0 + S, (12, 13), bids=[(102.0, 1.0)]), False),  # crosses
        (False, levels(T0 + S, (12, 13), asks=[(101.0, 0.0)]), False),  # an empty side
    ],
)
def test_a_book_that_missed_an_update_is_not_known(is_numbered, update, is_known):
    book = DepthBook(is_numbered=is_numbered)
    before = levels(T0 - 1, (1, 9), bids=[(50.0, 1.0)])
    snapshot = levels(T0, (10, 10), bids=[(100.0, 1.0)], asks=[(101.0, 1.0)], is_snapshot=True)

    found = depth_states(book, [before, snapshot, update], ends=np.array([T0 - 1, T0, update.known_us]))

    assert [it is not None for it in found] == [False, True, is_known]


def test_trade_flow_holds_what_was_known_after_the_start_and_up_to_the_end():
    known = np.array([T0 - 9, T0, T0 + 1, T0 + STEP, T0 + STEP + 1, T0 + 2 * STEP])
    price, qty = np.full(6, 10.0), np.arange(1.0, 7.0)
    is_buy = np.array([True, True, False, True, False, True])

    found = trade_flow(known, price, qty, is_buy, np.arange(6), step_us=STEP)

    # (T0, T0 + STEP] is covered; of the next one no trade proves that it is over.
    assert found.ends.tolist() == [T0, T0 + STEP][1:]
    assert (found.n_trades.tolist(), found.n_taker_buys.tolist()) == ([2.0], [1.0])
    assert (found.notional.tolist(), found.taker_buy_notional.tolist()) == ([70.0], [40.0])


def test_trade_flow_is_not_made_over_a_missing_trade_or_without_running_numbers():
    known = T0 + np.arange(0, 6 * STEP, STEP // 2) + 1
    one, buys, ids = np.ones(known.size), np.ones(known.size, bool), np.arange(known.size)
    holed = np.where(ids > 4, ids + 1, ids)

    whole = trade_flow(known, one, one, buys, ids, step_us=STEP)
    broken = trade_flow(known, one, one, buys, holed, step_us=STEP)
    shuffled = np.random.default_rng(0).permutation(known.size)
    again = trade_flow(known[shuffled], one, one, buys, ids[shuffled], step_us=STEP)

    assert whole.ends.tolist() == [T0 + k * STEP for k in (2, 3, 4, 5)] == again.ends.tolist()
    assert broken.ends.tolist() == [T0 + k * STEP for k in (2, 4, 5)]
    assert whole.n_trades.tolist() == again.n_trades.tolist() == [2.0] * 4
    assert trade_flow(known, one, one, buys, None, step_us=STEP).ends.size == 0


def test_liquidations_have_a_row_only_where_the_feed_showed_life():
    known = np.array([T0 + 1, T0 + STEP, T0 + 2 * STEP + 1])
    found = liquidation_flow(known, np.array([5.0, 7.0, 1.0]), np.array([0, 0, 1]), n_symbols=2, step_us=STEP)

    assert found.ends.tolist() == [T0 + STEP, T0 + 3 * STEP]
    assert found.liquidation_usd.tolist() == [[12.0, 0.0], [0.0, 1.0]]
    assert found.n_liquidations.tolist() == [[2.0, 0.0], [0.0, 1.0]]


def test_an_interval_that_was_not_over_when_the_feed_was_last_heard_is_left_out():
    known = np.array([T0 + 1, T0 + STEP + 1])
    usd, symbol = np.array([5.0, 7.0]), np.array([0, 0])
    hour = 12 * STEP
    told = np.array([T0 - T0 % hour + 1, T0 - T0 % hour + 30 * hour + 1])

    found = liquidation_flow(known, usd, symbol, n_symbols=1, step_us=STEP, until_us=int(known[-1]))
    at_its_end = liquidation_flow(known, usd, symbol, n_symbols=1, step_us=STEP, until_us=T0 + 2 * STEP)

    assert found.ends.tolist() == at_its_end.ends.tolist() == [T0 + STEP]  # more may come of the last instant itself
    assert event_density(told, until_us=int(told[-1]))[0][-1] == told[-1] - 1
    assert event_density(told)[0][-1] == told[-1] - 1 + hour


def test_a_series_is_scored_among_its_last_sixty_values_and_known_with_the_last_of_them():
    values = np.concatenate([np.arange(60.0), [200.0], np.full(60, 0.1)])
    known = T0 + STEP * np.arange(values.size)
    known[59] += 5 * STEP  # published late

    scores, at = series_state(values, known)

    assert np.isnan(scores[:59]).all() and (at[:59] == 0).all()
    assert scores[59] == pytest.approx((59 - 29.5) / statistics.pstdev(range(60)))
    assert scores[60] == pytest.approx((200 - statistics.mean([*range(1, 60), 200])) /
                                       statistics.pstdev([*range(1, 60), 200]))  # fmt: skip
    assert at[59] == at[60] == at[64] == known[59] and at[65] == known[65]
    assert math.isnan(scores[-1])  # sixty equal values


def test_events_are_counted_over_a_day_as_they_became_known():
    hour = 12 * STEP
    known = np.array([T0 - T0 % hour + 1, T0 - T0 % hour + hour, T0 - T0 % hour + 30 * hour])

    ends, counts = event_density(known)

    assert ends[0] == T0 - T0 % hour + 24 * hour and ends[-1] == known[-1]
    assert counts.tolist() == [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert [it.size for it in event_density(np.empty(0, np.int64))] == [0, 0]


def test_a_mark_is_compared_with_the_close_of_its_own_instant_only():
    mark_us = T0 + STEP * np.array([12, 24, 36])
    closed_us = T0 + STEP * np.array([11, 12, 23, 36])

    found = mark_premium(mark_us, np.array([101.0, 50.0, 99.0]), mark_us, closed_us, np.array([1.0, 100, 50, 100]))

    assert found[0] == pytest.approx(0.01) and math.isnan(found[1]) and found[2] == pytest.approx(-0.01)


@pytest.mark.data
def test_the_book_rebuilt_from_a_real_capture_agrees_with_the_venues_own_best_quotes(qraft_data):
    feeds = {name: [] for name in ("quotes", "levels", "trades")}
    for day in ("20240808", "20240809"):
        with gzip.open(qraft_data / f"book/binance_spot_btcusdt_{day}.jsonl.gz", "rt") as lines:
            for line in lines:
                received, _, text = line.partition(" ")
                _sort_in(feeds, int(received) // 1000, json.loads(text))
    ends = np.array([1_723_161_300, 1_723_161_600, 1_723_161_900], dtype=np.int64) * S - 1_270_000  # receiver's clock
    on_grid = np.array([1_723_161_300, 1_723_161_600, 1_723_161_900], dtype=np.int64) * S
    best = quotes(*((at + 1_270_000, *row) for at, row in feeds["quotes"]))
    book, states = DepthBook(is_numbered=True), quote_states(best, ends=on_grid, step_us=STEP)
    ordered = sorted(feeds["levels"], key=lambda it: (it.final_id, not it.is_snapshot))

    for i, end in enumerate(ends):
        (depth,) = depth_states(book, [it for it in ordered if it.known_us <= end], ends=np.array([end]))
        ordered = [it for it in ordered if it.known_us > end]
        bids, asks = book._bids, book._asks
        spread = (min(asks) - max(bids)) / ((min(asks) + max(bids)) / 2)
        queue = (bids[max(bids)] - asks[min(asks)]) / (bids[max(bids)] + asks[min(asks)])
        assert depth is not None and depth.bid > 1e6 and depth.ask > 1e6
        # Depth comes every 100 ms, best quotes at once: at one instant they differ by that much at most.
        assert states.spread_frac[i] == pytest.approx(spread, rel=0.5)
        assert abs(states.queue_imbalance[i] - queue) < 0.75
    assert np.isnan(states.order_flow_imbalance[0])  # the capture begins within this interval
    assert states.order_flow_imbalance[1] < 0 < states.order_flow_imbalance[2]  # the price fell, then rose
    _check_trades(feeds["trades"])


def _sort_in(feeds, received_us, message):
    data = message.get("data", message)
    sides = {
        side: [(float(p), float(q)) for p, q in data[key]]
        for side, keys in (("bids", ("bids", "b")), ("asks", ("asks", "a")))
        for key in keys if isinstance(data.get(key), list)
    }  # fmt: skip
    if "lastUpdateId" in data:
        ids = data["lastUpdateId"]
        feeds["levels"].append(levels(received_us, (ids, ids), is_snapshot=True, **sides))
    elif data.get("e") == "depthUpdate":
        feeds["levels"].append(levels(received_us, (data["U"], data["u"]), **sides))
    elif data.get("e") == "trade":
        feeds["trades"].append((data["T"] * 1000, data["t"], float(data["p"]), float(data["q"]), not data["m"]))
    elif "B" in data:
        feeds["quotes"].append((received_us, tuple(float(data[key]) for key in ("b", "B", "a", "A"))))


def _check_trades(rows):
    at, ids, price, qty, is_buy = (np.array(column) for column in zip(*rows, strict=True))
    found = trade_flow(at, price, qty, is_buy, ids, step_us=STEP)
    end = 1_723_161_600 * S
    own = [row for row in rows if end - STEP < row[0] <= end]

    assert found.ends.tolist() == [end, end + STEP]
    assert found.n_trades[0] == len(own) and found.n_taker_buys[0] == sum(row[4] for row in own)
    assert found.notional[0] == pytest.approx(sum(p * q for _, _, p, q, _ in own), rel=1e-12)
    assert found.notional[0] / sum(q for _, _, _, q, _ in own) == pytest.approx(61_700, abs=100)  # the bar's prices
