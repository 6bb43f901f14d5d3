"""Whatever the order in which two ordered streams arrive, their messages take effect by event time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.svc_execution.kit import at

from svc_execution.domain.sequencer import Step, next_step


@pytest.mark.parametrize(
    ("last_bar", "last_targets", "bar", "targets", "step"),
    [
        (None, None, None, None, Step.WAIT),
        (None, None, 5, None, Step.BAR),
        (None, None, None, 5, Step.WAIT),
        (None, None, 5, 5, Step.BAR),
        (None, None, 5, 4, Step.TARGETS_WITHOUT_BAR),
        (5, None, None, None, Step.WAIT),
        (5, None, 6, None, Step.WAIT),
        (5, None, 5, None, Step.KNOWN_BAR),
        (5, None, None, 5, Step.TARGETS),
        (5, None, 6, 5, Step.TARGETS),
        (5, None, None, 4, Step.KNOWN_TARGETS),
        (5, None, None, 6, Step.HOLD_MISSING),
        (5, 4, 4, 5, Step.KNOWN_BAR),
        (5, 5, 6, None, Step.BAR),
        (5, 5, 6, 6, Step.BAR),
        (5, 5, 7, 6, Step.TARGETS_WITHOUT_BAR),
        (5, 5, None, 6, Step.WAIT),
        (5, 5, None, 5, Step.KNOWN_TARGETS),
        (5, 5, 6, 4, Step.KNOWN_TARGETS),
        (5, 5, None, None, Step.WAIT),
    ],
)
def test_each_situation_has_one_next_step(last_bar, last_targets, bar, targets, step):
    found = next_step(
        last_bar_at=None if last_bar is None else at(last_bar),
        last_targets_at=None if last_targets is None else at(last_targets),
        bar_at=None if bar is None else at(bar),
        targets_at=None if targets is None else at(targets),
        is_late=False,
    )

    assert found is step


def test_deadline_holds_only_where_targets_are_awaited():
    def late(last_targets: int, bar: int | None, targets: int | None) -> Step:
        return next_step(
            last_bar_at=at(5),
            last_targets_at=at(last_targets),
            bar_at=None if bar is None else at(bar),
            targets_at=None if targets is None else at(targets),
            is_late=True,
        )

    assert late(4, None, None) is Step.HOLD_LATE
    assert late(4, 6, None) is Step.HOLD_LATE
    assert late(4, None, 5) is Step.TARGETS
    assert late(5, None, None) is Step.WAIT


@given(st.sets(st.integers(0, 12), min_size=1), st.sets(st.integers(0, 12)), st.lists(st.booleans(), max_size=60))
def test_effects_do_not_depend_on_which_stream_is_faster(bar_times, target_times, coin):
    in_turn = _run(sorted(bar_times), sorted(target_times), coins=[True, False] * 40)

    assert _run(sorted(bar_times), sorted(target_times), coins=coin + [True, False] * 40) == in_turn


def _run(bars: list[int], targets: list[int], *, coins: list[bool]) -> tuple[list[tuple[str, int]], set[int]]:
    """Feed both streams, one message of each at hand at most; return effects in order, and targets without a bar."""
    effects: list[tuple[str, int]] = []
    without_bar: set[int] = set()
    last_bar: int | None = None
    last_targets: int | None = None
    left, right = list(bars), list(targets)
    bar: int | None = None
    target: int | None = None
    for from_bars in coins:
        if from_bars and bar is None and left:
            bar = left.pop(0)
        if not from_bars and target is None and right:
            target = right.pop(0)
        while True:
            step = next_step(
                last_bar_at=None if last_bar is None else at(last_bar),
                last_targets_at=None if last_targets is None else at(last_targets),
                bar_at=None if bar is None else at(bar),
                targets_at=None if target is None else at(target),
                is_late=False,
            )
            if step is Step.WAIT:
                break
            if step is Step.BAR:
                assert bar is not None
                effects.append(("bar", bar))
                last_bar, bar = bar, None
            elif step is Step.TARGETS:
                assert target is not None
                effects.append(("targets", target))
                last_targets, target = target, None
            elif step is Step.HOLD_MISSING:
                assert last_bar is not None
                effects.append(("hold", last_bar))
                last_targets = last_bar
            else:
                assert step in (Step.TARGETS_WITHOUT_BAR, Step.KNOWN_TARGETS), step
                assert target is not None
                assert target not in bars
                without_bar.add(target)
                target = None
    return effects, without_bar
