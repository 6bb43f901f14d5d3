from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qraft_bus.decisions import (
    Bury,
    Later,
    Retry,
    Settle,
    Stop,
    backoff_s,
    judge_delivery,
    judge_headers,
    judge_outcome,
    judge_work,
)
from qraft_bus.port import Delivery, RetryLater
from qraft_bus.settings import BusSettings
from qraft_contracts.outcomes import Malformed, Outcome, Refused, Transient

SETTINGS = BusSettings()
HEADERS = {
    "Nats-Msg-Id": "bars.5m/1",
    "Qraft-Schema": "bars/1",
    "Qraft-As-Of": "2025-06-01T00:05:00Z",
    "Qraft-Origin": "real",
    "Qraft-Lineage": "test",
    "traceparent": "00-0-0-01",
}


def delivery(*, headers: dict[str, str] = HEADERS, n_delivered: int = 1, subject: str = "bars.5m") -> Delivery:
    return Delivery(
        subject=subject,
        data=b"",
        headers=headers,
        stream="BARS",
        stream_seq=1,
        n_delivered=n_delivered,
        published_at=datetime(2025, 6, 1, tzinfo=UTC),
    )


def judged(error: BaseException | None, *, n_attempts: int = 1, elapsed_s: float = 0.0) -> object:
    return judge_outcome(error, key="k", n_attempts=n_attempts, elapsed_s=elapsed_s, settings=SETTINGS)


def test_delivery_that_is_as_agreed_may_reach_its_handler() -> None:
    assert judge_delivery(delivery(n_delivered=5), schemas=("bars/1",), settings=SETTINGS) is None


@pytest.mark.parametrize("missing", sorted(HEADERS))
def test_missing_or_empty_header_is_buried_by_name(missing: str) -> None:
    for headers in ({k: v for k, v in HEADERS.items() if k != missing}, {**HEADERS, missing: ""}):
        verdict = judge_delivery(delivery(headers=headers), schemas=("bars/1",), settings=SETTINGS)

        assert isinstance(verdict, Bury) and verdict.reason == "missing_header" and missing in verdict.detail


def test_unknown_schema_is_buried() -> None:
    verdict = judge_delivery(delivery(), schemas=("bars/2", "bars/3"), settings=SETTINGS)

    assert isinstance(verdict, Bury) and verdict.reason == "unknown_schema" and "'bars/1'" in verdict.detail


def test_sixth_delivery_is_poison() -> None:
    verdict = judge_delivery(delivery(n_delivered=6), schemas=("bars/1",), settings=SETTINGS)

    assert isinstance(verdict, Bury) and verdict.reason == "poison"


def test_dead_letters_reach_their_reader_as_they_are() -> None:
    verdict = judge_delivery(delivery(headers={}, subject="deadletter.bars"), schemas=(), settings=SETTINGS)

    assert verdict is None


def test_each_outcome_has_its_verdict() -> None:
    assert judged(None) == Settle()
    assert judged(Refused("stale", "old")) == Settle(outcome="refused", reason="stale", detail="old")
    assert judged(Malformed("undecodable", "no Arrow")) == Bury("undecodable", "no Arrow")
    assert isinstance(judged(Transient("away")), Retry)


@pytest.mark.parametrize("error", [KeyError("x"), TimeoutError(), asyncio.CancelledError(), AssertionError("x")])
def test_everything_else_is_a_bug_and_stops(error: BaseException) -> None:
    verdict = judged(error)

    assert isinstance(verdict, Stop) and type(error).__name__ in verdict.reason


def test_transient_stops_when_its_budget_is_used_up() -> None:
    assert isinstance(judged(Transient("away"), n_attempts=40, elapsed_s=290.0), Retry)
    assert isinstance(judged(Transient("away"), n_attempts=60, elapsed_s=299.9), Stop)


@settings(deadline=None)  # a busy machine is no failure
@given(n_attempts=st.integers(1, 10_000), key=st.text(max_size=30))
def test_backoff_doubles_to_a_ceiling_and_is_reproducible(n_attempts: int, key: str) -> None:
    pause_s = backoff_s(n_attempts, key=key, settings=SETTINGS)

    ceiling_s = min(5.0, 0.05 * 2.0 ** min(n_attempts - 1, 30))
    assert ceiling_s / 2 <= pause_s <= ceiling_s
    assert pause_s == backoff_s(n_attempts, key=key, settings=SETTINGS)


def test_backoff_spreads_different_messages() -> None:
    assert len({backoff_s(8, key=str(number), settings=SETTINGS) for number in range(100)}) == 100


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (None, Settle()),
        (Refused("canceled", "by the user"), Settle("refused", "canceled", "by the user")),
        (Malformed("undecodable", "x"), Bury("undecodable", "x")),
        (RetryLater(42.0, "the provider said so"), Later(42.0, "the provider said so")),
        (RetryLater(0), Later(0, "")),
    ],
)
def test_work_that_ended_by_name_is_settled_buried_or_handed_back(
    outcome: Outcome | RetryLater | None, verdict: object
) -> None:
    assert judge_work(outcome, key="k", n_delivered=99, settings=SETTINGS) == verdict


@given(st.integers(1, 10_000))
def test_transient_work_comes_again_for_ever_after_bounded_growing_pauses(n_delivered: int) -> None:
    verdict = judge_work(Transient("database_away"), key="k", n_delivered=n_delivered, settings=SETTINGS)

    assert isinstance(verdict, Later) and verdict.reason == "database_away"
    assert SETTINGS.backoff_first_s / 2 <= verdict.delay_s <= SETTINGS.backoff_max_s
    assert n_delivered < 10 or verdict.delay_s >= SETTINGS.backoff_max_s / 2


def test_work_delivered_often_is_not_poison_but_an_unknown_schema_is_unreadable() -> None:
    assert judge_headers(delivery(n_delivered=1_000), schemas=("bars/1",)) is None
    unreadable = judge_headers(delivery(), schemas=("bars/2",))
    assert unreadable is not None and unreadable.reason == "unknown_schema"
