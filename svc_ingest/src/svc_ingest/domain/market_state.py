"""What else was known of each symbol at the ends of bars: funding, open interest and the rest of STATE_INPUTS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from qraft_contracts.kinds import KINDS, STATE_INPUTS
from svc_ingest.domain.raw import FloatArray


@dataclass(frozen=True, slots=True)
class KnownState:
    """
    values: (n_times, n_symbols) by name, NaN = nothing known, a name without any value absent. faults: sources that
    could not be read → why.
    """

    values: Mapping[str, FloatArray] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


# Kinds that are derived of these are worked out when a line loads its history: daily series and dates, a second. What
# is derived of bars, trades and books is left to `collect`.
_CHEAP: Final = frozenset({"macro", "onchain", "events"})


def state_tables(market: str) -> frozenset[tuple[str, str]]:
    """Return the (kind, market) of the tables that the state of a market's symbols is read from; "" = none."""
    return frozenset((it.kind, it.market or market) for it in STATE_INPUTS.values() if market)


def derivable(tables: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Return those of the tables that are derived of small ones."""
    return frozenset((kind, market) for kind, market in tables if _is_cheap(kind))


def with_sources(tables: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Return the tables and those that `derivable` ones are derived of."""
    sources = {(it, market) for kind, market in derivable(tables) for it in KINDS[kind].derived_from}
    return tables | sources


def _is_cheap(kind: str) -> bool:
    return bool(KINDS[kind].derived_from) and set(KINDS[kind].derived_from) <= _CHEAP
