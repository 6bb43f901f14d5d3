"""When targets may not become orders at all. Every rule has a code; the first that matches speaks for all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from qraft_contracts.origin import Origin, worst_origin
from qraft_contracts.targets import Limits, Targets
from svc_execution.domain.state import KillSwitch, Refusal

N_EXAMPLES = 3
# Weights are sums of scaled shares; this is far above their rounding and far below any order.
TOLERANCE = 1e-9
POLICIES = frozenset({"short", "long"})


@dataclass(frozen=True, slots=True)
class VenueLimits:
    """The execution side's own caps: a message may be stricter, never looser. Fractions of equity."""

    symbol_cap: float
    gross_max: float


def misaddressed(targets: Targets, *, market: str, interval: str) -> str | None:
    """Return why the targets are not for this account, or None."""
    if targets.market != market:
        return "market_mismatch"
    return "interval_mismatch" if targets.interval != interval else None


def refuse_all(
    targets: Targets, *, bar_origin: Origin, kill_switch: KillSwitch, venue: VenueLimits, sha256: str
) -> Refusal | None:
    """Return why none of the targets may become an order, or None."""
    for reason, examples in _findings(targets, bar_origin, kill_switch, venue):
        n = max(len(targets.targets), 1)
        return Refusal(targets.as_of, reason, n, tuple(examples[:N_EXAMPLES]), sha256)
    return None


def _findings(
    targets: Targets, bar_origin: Origin, kill_switch: KillSwitch, venue: VenueLimits
) -> Iterator[tuple[str, list[str]]]:
    rows, limits = targets.targets, targets.limits
    if kill_switch.engaged:
        yield "kill_switch", [kill_switch.reason or ""]
    # Targets that claim a better provenance than the bars under them are not what they say they are.
    if worst_origin([targets.origin, bar_origin]) != targets.origin:
        yield "origin_mismatch", [f"targets {targets.origin.value}, bars {bar_origin.value}"]
    if not targets.profile:
        yield "no_profile", []
    if not _are_usable(limits):
        yield "bad_limits", [f"symbol_cap {limits.symbol_cap}, gross_max {limits.gross_max}"]
    repeated = [symbol for symbol, n in Counter(row.symbol for row in rows).items() if n > 1]
    if repeated:
        yield "duplicate_symbol", repeated
    unnamed = [row.symbol for row in rows if not row.symbol.strip()]
    if unnamed:
        yield "unnamed_symbol", unnamed
    nan = [row.symbol for row in rows if not math.isfinite(row.weight)]
    if nan:
        yield "nan_weight", nan
    strange = [f"{row.symbol} {row.policy}" for row in rows if row.policy not in POLICIES]
    if strange:
        yield "unknown_policy", strange
    symbol_cap = min(limits.symbol_cap, venue.symbol_cap) + TOLERANCE
    beyond = [row.symbol for row in rows if abs(row.weight) > symbol_cap]
    if beyond:
        yield "symbol_cap_exceeded", beyond
    gross = math.fsum(abs(row.weight) for row in rows)
    if not gross <= min(limits.gross_max, venue.gross_max) + TOLERANCE:
        yield "gross_exceeded", [f"{gross:.6f}"]


def _are_usable(limits: Limits) -> bool:
    return all(math.isfinite(limit) and limit > 0.0 for limit in (limits.symbol_cap, limits.gross_max))
