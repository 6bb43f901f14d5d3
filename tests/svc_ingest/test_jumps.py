"""Rows that come one at a time: another unit is seen at once where no market moves so far, else after ten of them."""

from __future__ import annotations

import numpy as np
import pytest

from svc_ingest.domain.venue_rows import find_jumps

RATES = np.array([0.0001, 0.0002, 0.0003] * 20)
INTEREST = {"open_interest": np.full(60, 1000.0), "open_interest_usd": np.full(60, 6e7)}


def test_one_row_of_another_unit_is_found_and_its_neighbours_are_not() -> None:
    values = {"open_interest": np.full(3, 1000.0), "open_interest_usd": np.array([6e7, 6e4, 6.1e7])}

    assert find_jumps("open_interest", values, INTEREST) == {
        1: "unit_drift: open_interest_usd is 0.001 times what it was"
    }


def test_squeeze_is_no_other_unit_and_ten_settlements_in_per_cent_are() -> None:
    squeeze = {"funding_rate": np.array([0.02] * 9)}
    assert find_jumps("funding", squeeze, {"funding_rate": RATES}) == {}

    # The tenth in a row, though nine of them came before and are stored.
    stored = {"funding_rate": np.append(RATES, squeeze["funding_rate"])}
    (found,) = find_jumps("funding", {"funding_rate": np.array([0.02])}, stored).items()
    assert found == (0, "unit_drift: funding_rate is 100 times what it was")


@pytest.mark.parametrize("before", [np.empty(0), np.full(9, 1.0)])
def test_nothing_is_said_before_there_is_a_level(before: np.ndarray) -> None:
    fields = {"open_interest": before, "open_interest_usd": before}

    assert find_jumps("open_interest", {name: np.array([1e9]) for name in fields}, fields) == {}


def test_zero_says_nothing_about_a_unit() -> None:
    values = {"open_interest": np.array([0.0]), "open_interest_usd": np.array([0.0])}

    assert find_jumps("open_interest", values, INTEREST) == {}
