"""The command that brings what a series misses: from where its market comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qraft_contracts.times import parse_instant

# Made of what is stored; no venue tells them as a series.
DERIVED: Final = (
    "basis", "book_state", "trade_flow", "liquidation_flow", "mark_premium", "series_state", "event_density",
    "text_state",
)  # fmt: skip
# What `qraft data collect --source exchange` asks venues for.
TOLD_BY_VENUES: Final = (
    "bars", "funding", "open_interest", "long_short", "taker_volume", "mark_price", "trades", "book_snapshot",
)  # fmt: skip
_CONTRACTS: Final = ("spot", "perp")


def mend_command(
    kind: str, market: str, symbol: str = "", interval: str = "", *, after: str = "", until: str = "", line_market: str
) -> str:
    """
    Return the command that brings rows of a series.

    The line's own bars come from the line's own source; a market `<venue>.spot` or `.perp` from that exchange; what is
    derived out of what is stored; everything else out of files.

    Args:
        symbol: "" = every symbol of the settings. after, until: "" = all that there is. line_market: of svc_ingest.
    """
    span = f" --from {after} --until {until}" if after else ""
    venue, _, contract = market.rpartition(".")
    if kind == "bars" and market == line_market:
        return f"qraft data load{span}"
    if kind in DERIVED:
        return f"qraft data collect --source derived --kind {kind}{span}"
    if contract in _CONTRACTS and venue and kind in TOLD_BY_VENUES:
        only = (f" --symbol {symbol}" if symbol else "") + (f" --interval {interval}" if interval else "")
        return f"qraft data collect --source exchange --exchange {venue} --kind {kind}{only}{span}"
    return f"qraft data collect --source files --kind {kind}{span}"


def merged_commands(commands: Sequence[str]) -> list[str]:
    """Return the commands, those that differ in symbols and stretch only as one of all of these, sorted."""
    found: dict[str, tuple[dict[str, None], str, str]] = {}
    for command in sorted(commands):
        head, symbols, start, end = _taken_apart(command.split())
        before = found.get(head)
        if before is None:
            found[head] = (dict.fromkeys(symbols), start, end)
            continue
        # Without a stretch, or without a symbol, a command brings everything.
        is_whole, is_every = not (start and before[1]), not (symbols and before[0])
        found[head] = (
            {} if is_every else before[0] | dict.fromkeys(symbols),
            "" if is_whole else min(start, before[1], key=parse_instant),
            "" if is_whole else max(end, before[2], key=parse_instant),
        )
    return sorted(
        head
        + "".join(f" --symbol {name}" for name in sorted(names))
        + (f" --from {start} --until {end}" if start else "")
        for head, (names, start, end) in found.items()
    )


def _taken_apart(words: Sequence[str]) -> tuple[str, list[str], str, str]:
    """Return a command without symbols and stretch, its symbols, and its stretch."""
    kept, taken = list[str](), dict[str, list[str]]()
    for word in words:
        if kept and kept[-1] in ("--symbol", "--from", "--until"):
            taken.setdefault(kept.pop(), []).append(word)
        else:
            kept.append(word)
    start, end = ("".join(taken.get(name, [])) for name in ("--from", "--until"))
    return " ".join(kept), taken.get("--symbol", []), start, end
