"""Hop latencies: what a bar takes, apart from what the first bars waited for the line's start."""

from __future__ import annotations

from svc_execution.domain.latency import N_STARTING_MAX, LatencyLog, Starting

MS = 1_000_000


def record(log: LatencyLog, start_ms: int, took_ms: int) -> None:
    """Add a bar that was published and, through one service, became orders."""
    log.record([("svc_ingest", start_ms * MS), ("svc_features", start_ms * MS + MS), ("x", (start_ms + took_ms) * MS)])


def test_first_bar_and_those_behind_it_are_counted_apart() -> None:
    log = LatencyLog()
    # As measured: the first bar takes 6.5 s, the others come every 0.2 s and wait behind it.
    for i in range(34):
        record(log, 200 * i, 6_500 - 195 * i)
    for i in range(34, 60):
        record(log, 200 * i, 20)

    assert log.starting == Starting(34, 6_500.0)
    assert (log.total().n, log.total().p99_ms) == (26, 20.0)
    assert [hop.n for hop in log.hops()] == [26, 26]


def test_bar_that_is_slow_later_counts() -> None:
    log = LatencyLog()
    for start_ms, took_ms in ((0, 300), (1_000, 20), (2_000, 3_000), (2_200, 2_850)):
        record(log, start_ms, took_ms)

    assert log.starting.n == 1 and log.total().n == 3 and log.total().p99_ms > 2_900.0


def test_line_that_never_keeps_up_is_not_taken_for_one_that_starts() -> None:
    log = LatencyLog()
    for i in range(100):
        record(log, i, 1_000)

    assert log.starting.n == N_STARTING_MAX and log.total().n == 100 - N_STARTING_MAX


def test_line_that_is_always_slower_than_its_bars_is_measured_after_a_minute() -> None:
    log = LatencyLog()
    for i in range(60):
        record(log, 60_000 * i, 70_000)

    assert log.starting.n <= 3 and log.total().p50_ms == 70_000.0
