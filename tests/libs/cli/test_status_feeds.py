"""`qraft status` says which polled feeds are fresh, and of each other one what is wrong with it."""

from __future__ import annotations

from rich.text import Text

from qraft_cli.commands.status import feed_lines


def feed(kind: str, *, stale: list[str] | None = None, problem: str = "") -> dict:
    return {"kind": kind, "market": "binance.perp", "stale": stale or [], "problem": problem}


def test_fresh_feeds_are_one_line_and_each_other_one_is_told_with_its_problem() -> None:
    feeds = [feed("funding"), feed("basis"), feed("open_interest", stale=["BTCUSDT"], problem="drift: ['buyVol']"),
             feed("long_short", problem="exchange_away: timeout")]  # fmt: skip

    lines = [Text.from_markup(line).plain for line in feed_lines(feeds)]

    assert lines == [
        "feeds fresh: funding binance.perp, basis binance.perp",
        "stale open_interest binance.perp: BTCUSDT; drift: ['buyVol']",
        "stale long_short binance.perp: failing; exchange_away: timeout",
    ]


def test_nothing_polled_is_nothing_said() -> None:
    assert feed_lines([]) == []
