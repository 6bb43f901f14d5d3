"""
When a continuous future changes its contract, and how the parts are joined. Pure maths; no look-ahead.

By days: the expiry is known beforehand, so the first row within the days already shows the next contract. By volume
or open interest: row t decides from what was known at its time, row t + 1 is the first of the next contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from qraft_data.times import DAY_US, BoolArray, FloatArray, Int64Array

RollBy = Literal["days_before_expiry", "volume", "open_interest"]
BackAdjust = Literal["none", "difference", "ratio"]


class RollRule(msgspec.Struct, frozen=True, kw_only=True):
    """
    A fixed roll rule.

    by: `days_before_expiry` rolls `days` calendar days before expiry. `volume` (sum of the last `window_bars` bars) and
    `open_interest` (newest known) roll when a later contract has had more for `persist_bars` rows in a row; an expiry
    rolls in any case, and there is no way back to an earlier contract.
    max_age_s: how old an open interest may be, None = what the dictionary says; where it is published once a day, say
    a day or more. warm_up_days: the rule already runs so long before the range, so that its first row shows the
    contract that a longer range shows there.
    back_adjust: what happens to prices before a roll: nothing, the gap added, or the ratio multiplied. Adjusted levels
    depend on later rolls, and by difference they may become negative; their returns (by ratio) and changes (by
    difference) do not.
    """

    by: RollBy
    days: int = 5
    window_bars: int = 1
    persist_bars: int = 3
    max_age_s: int | None = None
    warm_up_days: int = 45
    back_adjust: BackAdjust = "none"

    def check(self) -> None:
        """
        Check the numbers.

        Raises:
            ValueError: if one is out of range.
        """
        for name, value, low in (
            ("days", self.days, 0), ("window_bars", self.window_bars, 1), ("persist_bars", self.persist_bars, 1),
            ("warm_up_days", self.warm_up_days, 0),
        ):  # fmt: skip
            if value < low:
                raise ValueError(f"expected {name} from {low} on, received {value}")


class RollPoint(msgspec.Struct, frozen=True, kw_only=True):
    """
    One change of contract. row_at_us: the first row of `to_contract`. gap_at_us: the row whose two closes make the gap.

    gap: close of the new contract - close of the old one; ratio: new / old. Both None where no row has both closes.
    why: `days_before_expiry`, `volume`, `open_interest` or `expiry`.
    """

    root: str
    row_at_us: int
    from_contract: str
    to_contract: str
    gap_at_us: int
    gap: float | None
    ratio: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Rolls:
    """active: (n_rows,) column of the contract that each row shows, -1 = none. at: rows at which it changes."""

    active: Int64Array
    at: tuple[int, ...]
    why: tuple[str, ...]


def plan_rolls(at_us: Int64Array, *, expires_us: FloatArray, weight: FloatArray, rule: RollRule) -> Rolls:
    """
    Return which contract each row shows.

    Args:
        at_us: (n_rows,) strictly increasing.
        expires_us: (n_rows, n_contracts), expiry as known at each row, NaN while the contract is not listed; columns by
            expiry.
        weight: (n_rows, n_contracts), volume or open interest known at each row, NaN = none; unused by days.
        rule: which one.

    Raises:
        ValueError: if the rule is out of range.
    """
    rule.check()
    margin = rule.days * DAY_US if rule.by == "days_before_expiry" else 0
    is_open = expires_us - margin > at_us[:, None]  # NaN compares false: not listed, not open
    if rule.by == "days_before_expiry":
        return _by_days(is_open, expires_us > at_us[:, None], rule)
    return _by_weight(is_open, np.nan_to_num(weight), rule)


def _by_days(is_open: BoolArray, is_alive: BoolArray, rule: RollRule) -> Rolls:
    """Show the first open contract, but never go back; where no later one is listed, stay until expiry."""
    n_rows = len(is_open)
    first = np.where(is_open.any(axis=1), is_open.argmax(axis=1), -1)
    active = np.maximum.accumulate(first)
    stays = active >= 0
    stays[stays] = is_alive[np.arange(n_rows)[stays], active[stays]]
    return _rolls_of(np.where(stays, active, -1), [rule.by] * n_rows)


def _by_weight(is_open: BoolArray, weight: FloatArray, rule: RollRule) -> Rolls:
    """Show a contract until a later one has led it for persist_bars rows, or it expires."""
    n_rows = len(is_open)
    active, why = np.full(n_rows, -1, np.int64), ["expiry"] * n_rows
    current, decided, leader, n_led = -1, -1, -1, 0
    for row in range(n_rows):
        if decided >= 0 and is_open[row, decided]:
            current, n_led, why[row] = decided, 0, rule.by
        decided = -1
        if current < 0 or not is_open[row, current]:
            later = np.flatnonzero(is_open[row, current + 1 :])
            if not later.size:
                continue  # none is listed: nothing is shown, and there is still no way back
            current, n_led = current + 1 + int(later[0]), 0
        active[row] = current
        newest = _leader(is_open[row], weight[row], current)
        n_led = 0 if newest < 0 else n_led + 1 if newest == leader else 1
        leader = newest
        if n_led >= rule.persist_bars:
            decided = leader
    return _rolls_of(active, why)


def _leader(is_open: BoolArray, weight: FloatArray, current: int) -> int:
    """Return the later contract with the most weight where that is more than the current one's, or -1."""
    later = np.where(is_open[current + 1 :], weight[current + 1 :], -1.0)
    best = int(later.argmax()) if later.size else 0
    return current + 1 + best if later.size and later[best] > weight[current] else -1


def _rolls_of(active: Int64Array, why: list[str]) -> Rolls:
    """Return the rolls of a plan: rows whose contract differs from the last one shown."""
    at: list[int] = []
    last = -1
    for row in np.flatnonzero(np.diff(active, prepend=-1)).tolist():
        if active[row] >= 0 and last >= 0 and active[row] != last:
            at.append(row)
        last = int(active[row]) if active[row] >= 0 else last
    return Rolls(active, tuple(at), tuple(why[row] for row in at))


def roll_points(
    at_us: Int64Array, rolls: Rolls, *, close: FloatArray, contracts: tuple[str, ...], root: str
) -> tuple[RollPoint, ...]:
    """
    Return the roll points with their gaps: from the last row before the roll in which both contracts have a close.

    Args:
        close: (n_rows, n_contracts), as traded, NaN = no bar.
    """
    found = []
    for row, why in zip(rolls.at, rolls.why, strict=True):
        old = int(rolls.active[:row][rolls.active[:row] >= 0][-1])
        new = int(rolls.active[row])
        both = np.flatnonzero(np.isfinite(close[:row, old]) & np.isfinite(close[:row, new]))
        at = int(both[-1]) if both.size else row
        left, right = close[at, old], close[at, new]
        found.append(
            RollPoint(
                root=root,
                row_at_us=int(at_us[row]),
                from_contract=contracts[old],
                to_contract=contracts[new],
                gap_at_us=int(at_us[at]),
                gap=float(right - left) if both.size else None,
                ratio=float(right / left) if both.size else None,
                why=why,
            )
        )
    return tuple(found)


def joined_prices(
    at_us: Int64Array, prices: FloatArray, points: tuple[RollPoint, ...], *, back_adjust: BackAdjust
) -> FloatArray:
    """
    Return prices with the gaps taken out before each roll; the newest contract is as traded.

    By ratio the return over a roll is the new contract's own: it earns what one who changed at gap_at_us earned.

    Args:
        prices: (n_rows,) of the contract that each row shows.

    Raises:
        ValueError: if a gap is unknown, or a ratio is not positive.
    """
    if back_adjust == "none":
        return prices
    joined = prices.copy()
    for point in points:
        if point.gap is None or point.ratio is None or (back_adjust == "ratio" and not point.ratio > 0):
            raise ValueError(
                f"expected a row with closes of {point.from_contract} and {point.to_contract} before their roll, found "
                "none (or a price that is not positive): choose back_adjust='none' or another rule"
            )
        before = at_us < point.row_at_us
        joined[before] = joined[before] + point.gap if back_adjust == "difference" else joined[before] * point.ratio
    return joined
