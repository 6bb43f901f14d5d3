"""What every adapter does, and that it agrees with the twin on anything that hypothesis can think of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.libs.store.tables.behavior import TableStoreBehavior
from tests.libs.store.tables.tables_kit import DAY, TABLE_KINDS, any_row, table

from qraft_contracts.kinds import KINDS
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.port import TableStore


class AdapterBehavior(TableStoreBehavior):
    """What every adapter does, and that it agrees with the twin on anything."""

    n_examples = 30

    def test_any_allowed_rows_behave_as_in_the_twin(self, store: TableStore) -> None:
        self.check_any_rows(store)

    def check_any_rows(self, store: TableStore) -> None:
        numbers = iter(range(1_000_000))

        @settings(
            max_examples=self.n_examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # an example writes files; shrinking one took minutes
            suppress_health_check=list(HealthCheck),
        )
        @given(calls())
        def check(drawn: tuple[str, list[list[dict[str, Any]]], list[datetime]]) -> None:
            kind, batches, instants = drawn
            market = f"m{next(numbers)}"
            compare(store, kind, batches, instants, market=market)

        check()


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[list[dict[str, Any]]], list[datetime]]:
    """Return a kind, some calls of rows that often share names, and instants to read at."""
    kind = draw(st.sampled_from(TABLE_KINDS))
    pool = draw(st.lists(any_row(KINDS[kind]), min_size=1, max_size=6))
    names = ("symbol", "event_at", "row_id", "revision", "known_at")
    mixed = [a | {name: b[name] for name in names} for a in pool for b in pool]
    revised = [a | {"revision": draw(st.integers(0, 2))} for a in mixed]
    batches = draw(st.lists(st.lists(st.sampled_from(revised), min_size=1, max_size=8), min_size=1, max_size=4))
    events = [r["event_at"] for r in pool] + [r["known_at"] for r in pool]
    return kind, batches, sorted(draw(st.lists(st.sampled_from(events), min_size=3, max_size=3)))


def compare(
    store: TableStore, kind: str, batches: Iterable[list[dict[str, Any]]], instants: list[datetime], *, market: str
) -> None:
    """Do the same in the twin and hold every answer against it."""
    twin = MemoryTables()
    for batch in batches:
        rows = table(kind, batch)
        assert store.append(kind, market=market, rows=rows) == twin.append(kind, market=market, rows=rows)
    start, end, as_of = instants
    for revisions in ("latest", "first", "all"):
        for query in (
            {"symbols": None, "start": start, "end": end, "as_of": as_of},
            {"symbols": ["BTCUSDT", "Ω"], "start": start - 365 * 600 * DAY, "end": as_of, "as_of": end},
            {"symbols": None, "start": start, "end": as_of, "columns": ["source", KINDS[kind].fields[0].name]},
        ):
            expected = twin.read(kind, market=market, revisions=revisions, **query)
            assert store.read(kind, market=market, revisions=revisions, **query).equals(expected)
    for n, symbols in ((1, None), (2, ["ETHUSDT", "a b'\\"])):
        expected = twin.last(kind, market=market, symbols=symbols, n=n, as_of=as_of)
        assert store.last(kind, market=market, symbols=symbols, n=n, as_of=as_of).equals(expected)
    assert store.symbols(kind, market=market) == twin.symbols(kind, market=market)
    assert store.range(kind, market=market) == twin.range(kind, market=market)
    ours, theirs = (sorted(map(repr, s.quarantine(kind, market=market).to_pylist())) for s in (store, twin))
    assert ours == theirs
