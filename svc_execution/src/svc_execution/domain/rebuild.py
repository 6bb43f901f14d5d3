"""Positions, cash and PnL from the journal alone, and the proof that every stored figure is what the fills give."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from qraft_contracts.orders import Fill
from svc_execution.domain.account import Account, Mark, apply_fills, mark_to_close, open_account


class RebuildMismatch(Exception):
    """A stored figure differs from the one that the journal gives."""


def rebuild(start_cash: float, fills: Iterable[Fill], marks: Iterable[Mark]) -> Account:
    """
    Return the account after all marks, equal to every stored mark bit for bit.

    Args:
        start_cash: quote currency.
        fills: ordered by (filled_at, symbol).
        marks: ordered by closed_at.

    Raises:
        RebuildMismatch: naming the first mark or fill that differs.
    """
    account = open_account(start_cash)
    batches = groupby(fills, key=attrgetter("filled_at"))
    filled_at, batch = _next_batch(batches)
    for stored in marks:
        if filled_at is not None and filled_at == stored.closed_at:
            account = apply_fills(account, batch)
            _check_positions(account, batch)
            filled_at, batch = _next_batch(batches)
        account = mark_to_close(account, {s: p.close for s, p in stored.account.positions.items()})
        if account != stored.account:
            raise RebuildMismatch(f"mark of {stored.closed_at}: stored {stored.account}, the fills give {account}")
    if filled_at is not None:
        raise RebuildMismatch(f"fills at {filled_at} belong to no mark: {[fill.fill_id for fill in batch][:3]}")
    return account


def _next_batch(batches: Iterable[tuple[object, Iterable[Fill]]]) -> tuple[object, tuple[Fill, ...]]:
    for filled_at, fills in batches:
        return filled_at, tuple(fills)
    return None, ()


def _check_positions(account: Account, fills: tuple[Fill, ...]) -> None:
    for fill in fills:
        held = account.positions.get(fill.symbol)
        if (held.quantity if held else 0.0) != fill.position_after:
            raise RebuildMismatch(f"{fill.fill_id}: stored position {fill.position_after}, the fills give {held}")
