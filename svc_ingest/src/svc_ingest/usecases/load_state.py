"""Before a line's bars are loaded from files: the state of its market, so that history and messages have it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Outcome
from qraft_store.tables.port import TableStore
from qraft_telemetry import logs, metrics
from svc_ingest.domain.market_state import derivable, state_tables, with_sources
from svc_ingest.domain.tally import Tally
from svc_ingest.ports import CollectRecord
from svc_ingest.usecases.collect import Collector, Selection


@dataclass(frozen=True, slots=True)
class LoadState:
    """Collects the state tables of one market, such as `binance.perp`. derive: works kinds out of what is stored."""

    collector: Collector
    derive: Callable[[Selection, Tally], None]
    market: str

    def __call__(self) -> Tally:
        """
        Bring the state's tables into the lake, each data set once; a second run only looks whether files changed.

        What fails is told by name and never stops the bars: state is then absent, and its missing flags say so. Blocks.
        """
        wanted, tally = state_tables(self.market), Tally()
        try:
            self.collector.collect(Selection(tables=with_sources(wanted)), tally)
            derive_small(wanted, self.collector.tables, self.collector.record, self.derive, tally)
        except Outcome as error:
            self._tell("state", str(error))
        for failure in tally.failures:
            self._tell(failure.where, f"{failure.code}: {failure.why}")
        total = tally.total()
        logs.get().info("state.loaded", market=self.market, n_new=total.n_new, n_failures=len(tally.failures))
        return tally

    def _tell(self, source: str, why: str) -> None:
        metrics.STATE_FAULTS.labels(source).inc()
        logs.get().warning("state.not_loaded", source=source, why=why[:300])


def derive_small(
    wanted: frozenset[tuple[str, str]], tables: TableStore, record: CollectRecord,
    derive: Callable[[Selection, Tally], None], tally: Tally,
) -> None:  # fmt: skip
    """
    Work out what is derived of small tables, unless it was, of the same rows.

    Raises:
        Malformed, Transient: as the stores.
    """
    kinds = tuple(sorted({kind for kind, _ in derivable(wanted)}))
    sources = sorted(with_sources(wanted) - wanted | {it for it in wanted if it[0] in _sources_of(kinds)})
    versions = [tables.version(kind, market=market) for kind, market in sources]
    name, version = "derived.state", hashlib.sha256(repr((kinds, sources, versions)).encode()).hexdigest()
    if record.done(name, version) is None:
        derive(Selection(kinds=kinds), tally)
        record.set_done(name, version, {})


def _sources_of(kinds: tuple[str, ...]) -> set[str]:
    return {source for kind in kinds for source in KINDS[kind].derived_from}
