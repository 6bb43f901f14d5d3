"""Half-life: known curves give their number, everything else says why there is none."""

import math

import pytest

from qraft_screening.half_life import Decay, half_life

AGES = (0, 1, 2, 3, 6, 12, 24, 48, 96, 192)


@pytest.mark.parametrize("bars", [0.7, 5.0, 40.0, 150.0])
def test_exponential_decay_gives_its_half_life(bars):
    found = half_life(AGES, [-0.05 * 2 ** (-age / bars) for age in AGES], t=-9.0)

    assert found.verdict is Decay.FITTED
    assert found.bars == pytest.approx(bars, rel=0.02)
    assert found.fit_error < 0.01


def test_information_that_is_not_there_has_no_half_life():
    curve = [0.05 * 2 ** (-age / 5) for age in AGES]

    assert half_life(AGES, curve, t=1.9).verdict is Decay.NO_INFORMATION
    assert half_life(AGES, curve, t=math.nan).verdict is Decay.NO_INFORMATION
    assert half_life(AGES, [math.nan, *curve[1:]], t=9.0).verdict is Decay.NO_INFORMATION
    assert half_life((0, 1), [0.05, 0.01], t=9.0).verdict is Decay.NO_INFORMATION


def test_curve_that_does_not_fall_says_so_with_the_oldest_age():
    found = half_life(AGES, [0.05] * len(AGES), t=9.0)

    assert (found.verdict, found.bars) == (Decay.NO_DECAY_SEEN, 192.0)


def test_curve_of_another_form_is_unclear():
    assert (
        half_life(AGES, [0.05, 0.05, -0.05, 0.05, -0.05, 0.05, -0.05, 0.05, -0.05, 0.05], t=9.0).verdict
        is Decay.UNCLEAR
    )
