"""What a command must look like before anybody looks at the ledger: ids, texts and amounts in bounds."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Final

from qraft_contracts.billing import (
    INVALID,
    RecordLateSuccess,
    RecordRefundFailure,
    ReserveCredits,
    SettleHold,
    VoidHold,
)
from qraft_contracts.ledger import check_account_id
from qraft_contracts.outcomes import Refused
from qraft_contracts.usage import COLUMNS
from svc_billing.domain.commands import (
    CATEGORIES,
    BookUsage,
    CloseAccount,
    Command,
    GrantCredits,
    OpenAccount,
    RefundSettlement,
)
from svc_billing.domain.prices import AMOUNT_MAX

ID_LENGTH_MAX: Final = 200
TEXT_LENGTH_MAX: Final = 500
# Longer than any provider call with its disputes' deadline: 7 days.
LEASE_S_MAX: Final = 7 * 24 * 3600
N_ASSETS_MAX: Final = 100
PRIORITY_MAX: Final = 1_000
# Sums of a lifetime of such bookings fit 64 bits.
USAGE_MAX: Final = 10**15
_ID_FIELDS: Final = ("hold_id", "grant_id", "purpose")
_TEXT_FIELDS: Final = ("reason", "actor")
_SHA256_LENGTH: Final = 64
# Here and not where they are used: a union made anew for every command costs as much as its check.
_CHARGES: Final = (SettleHold, RecordLateSuccess)
_OF_AN_ACCOUNT: Final = (VoidHold, OpenAccount, CloseAccount)


def is_id(value: str) -> bool:
    """Return whether a text may be an id: 1 to 200 printable ASCII characters."""
    return 0 < len(value) <= ID_LENGTH_MAX and value.isascii() and value.isprintable()


def check(command: Command) -> None:
    """
    Check a command's own content, its operation id aside.

    Raises:
        Refused: invalid, naming the field.
    """
    kind = type(command)
    for name in _ids_of(kind):
        value = getattr(command, name)
        # As is_id, without the call: this runs for every command.
        if not (0 < len(value) <= ID_LENGTH_MAX and value.isascii() and value.isprintable()):
            raise _wrong(name, f"1 to {ID_LENGTH_MAX} printable ASCII characters", value)
    for name in _texts_of(kind):
        if len(getattr(command, name)) > TEXT_LENGTH_MAX:
            raise _wrong(name, f"at most {TEXT_LENGTH_MAX} characters", getattr(command, name))
    if isinstance(command, ReserveCredits):
        _check_account_id(command.account_id)
        if not 1 <= command.lease_s <= LEASE_S_MAX:
            raise _wrong("lease_s", f"1 to {LEASE_S_MAX} s", command.lease_s)
    elif isinstance(command, _CHARGES):
        _check_charge(command)
    elif isinstance(command, _OF_AN_ACCOUNT):
        _check_account_id(command.account_id)
    elif isinstance(command, RecordRefundFailure):
        if not 1 <= command.n_attempts <= USAGE_MAX:
            raise _wrong("n_attempts", ">= 1", command.n_attempts)
    elif isinstance(command, GrantCredits):
        _check_grant(command)
    elif isinstance(command, RefundSettlement):
        _check_amount(command.amount_microcredits, least=1)
    elif isinstance(command, BookUsage):
        _check_usage(command)


@cache
def _ids_of(kind: type[Command]) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if name in _ID_FIELDS)


@cache
def _texts_of(kind: type[Command]) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if name in _TEXT_FIELDS)


def _check_charge(command: SettleHold | RecordLateSuccess) -> None:
    _check_amount(command.amount_microcredits, least=0)
    cost = command.provider_cost_microusd
    if cost is not None and not 0 <= cost <= USAGE_MAX:
        raise _wrong("provider_cost_microusd", f"0 to {USAGE_MAX} or none", cost)
    if len(command.asset_sha256s) > N_ASSETS_MAX:
        raise _wrong("asset_sha256s", f"at most {N_ASSETS_MAX} hashes", len(command.asset_sha256s))
    for value in command.asset_sha256s:
        if len(value) != _SHA256_LENGTH or not value.isascii() or not value.isalnum():
            raise _wrong("asset_sha256s", "SHA-256 in hex", value)


def _check_grant(command: GrantCredits) -> None:
    if command.category not in CATEGORIES:
        raise _wrong("category", " or ".join(CATEGORIES), command.category)
    if not 0 <= command.priority <= PRIORITY_MAX:
        raise _wrong("priority", f"0 to {PRIORITY_MAX}", command.priority)
    _check_account_id(command.account_id)
    _check_amount(command.amount_microcredits, least=1)
    if command.grant_id.startswith("refund/"):
        raise _wrong("grant_id", "one that does not begin with refund/, which refunds use", command.grant_id)
    if command.expires_at is not None:
        _check_instant("expires_at", command.expires_at)


def _check_usage(command: BookUsage) -> None:
    usage = command.usage
    if usage.column not in COLUMNS:
        raise _wrong("column", " or ".join(COLUMNS), usage.column)
    for name in ("cpu_ms", "gpu_ms", "n_bytes"):
        if not 0 <= getattr(usage, name) <= USAGE_MAX:
            raise _wrong(name, f"0 to {USAGE_MAX}", getattr(usage, name))
    cost = usage.provider_cost_microusd
    if cost is not None and not 0 <= cost <= USAGE_MAX:
        raise _wrong("provider_cost_microusd", f"0 to {USAGE_MAX} or none", cost)
    for name in ("service", "purpose", "stop_condition"):
        if not _is_text(getattr(usage, name)):
            raise _wrong(name, f"at most {TEXT_LENGTH_MAX} characters", getattr(usage, name))
    if not is_id(usage.service):
        raise _wrong("service", "a name", usage.service)
    _check_instant("started_at", usage.started_at)
    _check_instant("ended_at", usage.ended_at)
    if usage.ended_at < usage.started_at:
        raise _wrong("ended_at", "an instant not before started_at", usage.ended_at.isoformat())


def _check_account_id(account_id: str) -> None:
    try:
        check_account_id(account_id)
    except ValueError as error:
        raise Refused(INVALID, str(error)) from error


def _check_amount(amount: int, *, least: int) -> None:
    if not least <= amount <= AMOUNT_MAX:
        raise _wrong("amount_microcredits", f"{least} to {AMOUNT_MAX}", amount)


def _check_instant(name: str, value: datetime) -> None:
    if value.tzinfo is None:
        raise _wrong(name, "an instant with its offset", value.isoformat())


def _is_text(value: str) -> bool:
    return len(value) <= TEXT_LENGTH_MAX


def _wrong(name: str, expected: str, received: object) -> Refused:
    return Refused(INVALID, f"expected {name} to be {expected}, received {received!r:.100}")
