"""How a feed, or what is derived of it, tells of itself: its state, the metrics, a note in /readyz, the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qraft_contracts.outcomes import Outcome
from qraft_runtime.clock import Clock
from qraft_runtime.health import Health
from qraft_telemetry import logs, metrics
from svc_ingest.domain.polling import FeedState
from svc_ingest.domain.raw import micros_of
from svc_ingest.domain.tally import Count, Named
from svc_ingest.usecases.poll_rows import REVISED

# What is said of one poll's gaps; the log has them all.
_GAPS_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class FeedTeller:
    """Where feeds tell."""

    clock: Clock
    health: Health

    def failed(self, state: FeedState, symbol: str, error: Outcome) -> str:
        """Count and log what failed, and return it in words."""
        state.n_errors += 1
        metrics.FEED_ERRORS.labels(state.market, state.kind, error.reason).inc()
        logs.get().warning(
            "feeds.failed", kind=state.kind, market=state.market, symbol=symbol, reason=error.reason,
            why=error.detail[:300],
        )  # fmt: skip
        return f"{error.reason}: {error.detail[:300]}"

    def lacks(self, state: FeedState, gap: Named) -> None:
        """Count and keep what a poll has left out for good."""
        state.n_gaps += 1
        said = f"{gap.code}: {gap.where} {gap.why}"
        state.gap = f"{state.gap}; {said}"[:_GAPS_CHARS] if state.gap else said
        metrics.FEED_ERRORS.labels(state.market, state.kind, gap.code).inc()

    def tell(self, state: FeedState, count: Count, problem: str) -> None:
        """Bring state, metrics and readiness up to date after a poll or a derivation."""
        state.problem = problem
        n_revised = count.reasons[REVISED]
        state.n_new += count.n_new - n_revised
        state.n_revised += n_revised
        state.n_quarantined += count.n_quarantined
        told = (("new", count.n_new - n_revised), ("revised", n_revised), ("quarantined", count.n_quarantined))
        for outcome, n in told:
            if n:
                metrics.FEED_ROWS.labels(state.market, state.kind, outcome).inc(n)
        now_us = micros_of(self.clock.now())
        if (age_s := state.age_s(now_us)) is not None:
            metrics.FEED_AGE.labels(state.market, state.kind).set(age_s)
        stale = state.stale(now_us)
        said = f"stale: {', '.join(stale[:10])}" if stale else "fresh"
        note = "; ".join(it for it in (said, problem, state.gap) if it)
        self.health.set_note(f"feed {state.kind} {state.market}", note)
