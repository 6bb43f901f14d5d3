"""
The bus edge: `billing.<verb>` questions and `usage.compute` messages.

A command costs decoding, a place in the ledger's queue and encoding of the answer: no task, no round trip of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC
from functools import partial
from typing import Any, Final

import msgspec

from qraft_bus.port import Answerer, AnswerHandler, Delivery, Subscription
from qraft_contracts import headers as header_names
from qraft_contracts.billing import (
    ACCOUNT_UNKNOWN,
    BILLING_COMMANDS,
    INVALID,
    OK,
    OVERLOADED,
    REFUSED,
    RETRY,
    BillingReply,
    EstimateCredits,
    ListOpenHolds,
    ReadBalance,
)
from qraft_contracts.codec import decode, encode
from qraft_contracts.outcomes import Malformed, Refused, Transient
from qraft_contracts.usage import USAGE_COMPUTE, ComputeUsage
from svc_billing.domain.state import RESERVED_ACCOUNTS, told_balance
from svc_billing.domain.validate import is_id
from svc_billing.ports import LedgerReader
from svc_billing.usecases.ledger import Ledger
from svc_billing.usecases.usage import book_usage

QUEUE: Final = "svc_billing"
USAGE_DURABLE: Final = "billing-usage"
# Questions of one verb in progress. Above the ledger's own queue, whose answer names the reason better.
N_CONCURRENT_MAX: Final = 16_384

Read = Callable[[Any], Any]


class Questions:
    """Answers every billing command."""

    def __init__(self, ledger: Ledger, reader: LedgerReader) -> None:
        self._ledger = ledger
        self._reader = reader

    def answerers(self) -> list[Answerer]:
        """Return one answerer a verb, all in one queue group, so that each question goes to one process."""
        reads: dict[type[msgspec.Struct], Read] = {
            EstimateCredits: self._estimate,
            ReadBalance: self._balance,
            ListOpenHolds: self._open_holds,
        }
        return [
            Answerer(
                subject=kind.SUBJECT,
                queue=QUEUE,
                handler=self._handler(kind, reads.get(kind)),
                overloaded=_overloaded,
                n_concurrent_max=N_CONCURRENT_MAX,
            )
            for kind in BILLING_COMMANDS
        ]

    def _handler(self, kind: Any, read: Read | None) -> AnswerHandler:
        decoder, schema = msgspec.json.Decoder(kind), kind.SCHEMA
        execute = partial(self._read, read) if read is not None else self._command

        def handle(data: bytes, headers: Mapping[str, str]) -> asyncio.Future[bytes]:
            told = headers.get(header_names.SCHEMA)
            if told != schema:
                return _done(
                    _invalid(f"expected the header {header_names.SCHEMA} to be {schema}, received {told!r:.80}")
                )
            try:
                command = decoder.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                return _done(_invalid(f"expected {kind.__name__} as JSON: {error}"))
            return execute(command)

        return handle

    def _command(self, command: Any) -> asyncio.Future[bytes]:
        """Queue a command; the answer is encoded when its batch is durable."""
        return self._ledger.enqueue(command, told_as=encode)

    def _read(self, read: Read, command: Any) -> asyncio.Future[bytes]:
        return asyncio.ensure_future(_answer_read(read, command))

    async def _estimate(self, command: EstimateCredits) -> BillingReply:
        prices = await self._reader.prices()
        return BillingReply(OK, estimate=prices.estimate(command.item))

    async def _balance(self, command: ReadBalance) -> BillingReply:
        account_id = command.account_id
        # Checked before it is looked for: the database takes no text with NUL in it.
        is_possible = is_id(account_id) and account_id not in RESERVED_ACCOUNTS
        account = await self._reader.account(account_id) if is_possible else None
        if account is None:
            raise Refused(ACCOUNT_UNKNOWN, f"expected an account that was opened, received {account_id!r:.80}")
        return BillingReply(OK, balance=told_balance(account.account_id, account.balances))

    async def _open_holds(self, command: ListOpenHolds) -> BillingReply:
        if command.made_before.tzinfo is None:
            raise Refused(INVALID, "expected made_before to be an instant with its offset")
        if command.purpose_prefix and not is_id(command.purpose_prefix):
            raise Refused(INVALID, "expected purpose_prefix to be at most 200 printable ASCII characters")
        before = command.made_before.astimezone(UTC)
        found = await self._reader.open_holds(purpose_prefix=command.purpose_prefix, made_before=before)
        return BillingReply(OK, holds=tuple(found))


class UsageHandler:
    """Books what jobs took."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def subscription(self) -> Subscription:
        """Return the durable subscription to usage.compute."""
        return Subscription(
            subject=USAGE_COMPUTE, durable=USAGE_DURABLE, handler=self.on_usage, schemas=(ComputeUsage.SCHEMA,)
        )

    async def on_usage(self, delivery: Delivery) -> None:
        """Handle one message."""
        try:
            usage = decode(delivery.data, ComputeUsage)
        except RecursionError as error:
            raise Malformed("undecodable", "expected ComputeUsage as JSON, received one nested too deeply") from error
        await book_usage(self._ledger, usage)


async def _answer_read(read: Read, command: Any) -> bytes:
    try:
        reply = await read(command)
    except Refused as refused:
        reply = BillingReply(REFUSED, code=refused.reason, message=refused.detail)
    except Transient as away:
        reply = BillingReply(RETRY, code=away.reason, message=away.detail)
    return encode(reply)


def _done(reply: BillingReply) -> asyncio.Future[bytes]:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    answer.set_result(encode(reply))
    return answer


def _invalid(message: str) -> BillingReply:
    return BillingReply(REFUSED, code=INVALID, message=message)


def _overloaded() -> bytes:
    message = f"{N_CONCURRENT_MAX} questions are in progress: send the same one again, more slowly"
    return encode(BillingReply(RETRY, code=OVERLOADED, message=message))
