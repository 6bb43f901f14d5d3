"""What a run asks to train on, and what a snapshot must be to train a model of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from qraft_contracts.kinds import STATE_INPUTS
from qraft_data.query import BAR_INPUTS, FieldRef, Query, engine_inputs

Mode = Literal["line", "production", "full"]
LINE: Final = "line"
# `flag` adds columns and changes no value; the other policies of qraft_data change what a live bar would have held.
_MISSING_AS_LIVE: Final = ("keep", "flag")


@dataclass(frozen=True, slots=True)
class DataRequest:
    """
    What a run asks to train on.

    mode: line = what is stored in the range, as it is; production, full = the window of that audit, found ready.
    state_market: whose tables hold the state of the symbols, "" = no state at all. states: names of STATE_INPUTS that
    the features read. symbols: none = every symbol with a bar in the range. start, end: of (start, end], None = all
    that is stored. snapshot_id: of the snapshot to train on again, None = a new one.
    """

    market: str
    interval: str
    state_market: str
    states: tuple[str, ...]
    mode: Mode = LINE
    symbols: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    snapshot_id: str | None = None

    def state_fields(self) -> dict[str, FieldRef]:
        """Return where each state comes from, by name, in the order of STATE_INPUTS."""
        found = {name: it for name, it in STATE_INPUTS.items() if name in self.states and self.state_market}
        return {
            name: FieldRef(metric=f"{it.kind}.{it.field}", market=it.market or self.state_market, symbol=it.symbol)
            for name, it in found.items()
        }

    def query(self, symbols: tuple[str, ...], *, start: datetime, end: datetime, has_state: bool) -> Query:
        """
        Return the question whose answer trains: bars as first published, states as they stood at each bar.

        What became known after `end` is not seen. has_state: false for simulated bars, which have no market's state.
        """
        bars = (FieldRef(metric=f"bars.{name}") for name in BAR_INPUTS)
        states = self.state_fields().values() if has_state else ()
        return Query(
            market=self.market, symbols=symbols, start=start, end=end, fields=(*bars, *states), as_of=end,
            interval=self.interval, revisions="first",
        )  # fmt: skip

    def faults(self, query: Query, *, has_state: bool) -> list[str]:
        """Return why the snapshot that answers a query is not what this run asks for, nothing if it is."""
        expected: dict[str, tuple[object, object]] = {
            "market (QRAFT_MARKET)": (self.market, query.market),
            "interval (QRAFT_INTERVAL)": (self.interval, query.interval),
            "revisions": ("first", query.revisions),
            "adjustment": ("none", query.adjustment),
            "currency": (None, query.currency),
            "roll rule": (None, query.continuous),
            "as_of": (query.end, query.limit),
            "symbols (QRAFT_TRAIN_SYMBOLS)": (self.symbols or query.symbols, query.symbols),
            "start (QRAFT_TRAIN_START)": (self.start or query.start, query.start),
            "end (QRAFT_TRAIN_UNTIL)": (self.end or query.end, query.end),
        }
        found = [f"{what}: expected {want}, received {got}" for what, (want, got) in expected.items() if want != got]
        if query.missing not in _MISSING_AS_LIVE:
            found.append(f"missing: expected {' or '.join(_MISSING_AS_LIVE)}, received {query.missing}")
        fields = engine_inputs(query)
        for name, ref in self.state_fields().items() if has_state else ():
            if fields.get(name) != ref.name:
                found.append(f"{name}: expected the field {ref.name}, received {fields.get(name, 'none')}")
        return found
