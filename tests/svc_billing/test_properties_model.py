"""Random commands against a plain model on a real PostgreSQL; what the model says, the ledger must say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.svc_billing.kit_core import (
    PRICES,
    Books,
    dispute,
    failing,
    late,
    postgres_books,
    refund,
    reserve,
    settle,
    void,
)

from qraft_contracts.billing import BillingReply
from svc_billing.domain.commands import GrantCredits, OpenAccount, VoidGrant, expire_grant, expire_hold

N_EXAMPLES = 300
N_STEPS = 50
# Of four picks three are holds that are open, the fourth is any id, known or not.
HOLDS = st.integers(0, 63)
AMOUNTS = st.sampled_from([amount for amount in PRICES if amount <= 60])


@dataclass
class ModelHold:
    state: str
    amount: int
    parts: list[list[object]]
    lease_ends: float
    settled: int = 0
    refunded: int = 0
    is_late: bool = False


@dataclass
class Model:
    """The rules again, as plainly as they can be said, sharing no code with the ledger."""

    now: float = 0.0
    shortfall: int = 0
    spent: int = 0
    grants: dict[str, dict[str, object]] = field(default_factory=dict)
    holds: dict[str, ModelHold] = field(default_factory=dict)

    def left(self) -> int:
        return sum(grant["left"] for grant in self.grants.values())  # type: ignore[misc]

    def held(self) -> int:
        return sum(hold.amount for hold in self.holds.values() if hold.state in ("held", "disputed"))

    def live(self) -> list[str]:
        def order(name: str) -> tuple[object, ...]:
            grant = self.grants[name]
            return (grant["priority"], grant["ends"], name)

        return sorted((n for n, g in self.grants.items() if not g["closed"] and g["ends"] > self.now), key=order)  # type: ignore[operator]

    def take(self, amount: int) -> list[list[object]]:
        parts: list[list[object]] = []
        for name in self.live():
            part = min(amount, self.grants[name]["left"])  # type: ignore[type-var]
            if part:
                self.grants[name]["left"] -= part  # type: ignore[operator]
                amount -= part  # type: ignore[operator]
                parts.append([name, part])
        return parts

    def give(self, parts: list[list[object]], used: int) -> None:
        for name, part in parts:
            kept = min(used, part)  # type: ignore[type-var]
            used -= kept  # type: ignore[operator]
            grant = self.grants[name]  # type: ignore[index]
            if not grant["closed"] and grant["ends"] > self.now:  # type: ignore[operator]
                grant["left"] += part - kept  # type: ignore[operator]

    def add(self, name: str, amount: int, priority: int, ends: float) -> None:
        repaid = min(amount, self.shortfall)
        self.shortfall -= repaid
        self.grants[name] = {"left": amount - repaid, "priority": priority, "ends": ends, "closed": False}

    def reserve(self, hold_id: str, amount: int, lease_s: int) -> str:
        known = self.holds.get(hold_id)
        if known is not None:
            return "already_voided" if known.state == "burned" else "hold_conflict"
        if sum(self.grants[name]["left"] for name in self.live()) < amount:  # type: ignore[misc]
            return "credits_insufficient"
        self.holds[hold_id] = ModelHold("held", amount, self.take(amount), self.now + lease_s)
        return ""

    def resolved(self, hold_id: str) -> str | None:
        hold = self.holds.get(hold_id)
        if hold is None:
            return "hold_unknown"
        words = {"settled": "already_settled", "voided": "already_voided", "burned": "already_voided"}
        return None if hold.state in ("held", "disputed") else words.get(hold.state, "already_expired")

    def settle(self, hold_id: str, amount: int) -> str:
        wrong = self.resolved(hold_id)
        if wrong is not None:
            return wrong
        hold = self.holds[hold_id]
        self.give(hold.parts, min(amount, hold.amount))
        extra = max(0, amount - hold.amount)
        taken: int = sum(part for _, part in self.take(extra))  # type: ignore[misc]
        self.shortfall += extra - taken
        self.spent += amount
        hold.state, hold.settled = "settled", amount
        return ""

    def release(self, hold_id: str, state: str) -> str:
        if state == "voided" and hold_id not in self.holds:
            self.holds[hold_id] = ModelHold("burned", 0, [], 0)
            return ""
        wrong = self.resolved(hold_id)
        if wrong is not None:
            return wrong
        hold = self.holds[hold_id]
        if state == "expired" and (hold.state == "disputed" or hold.lease_ends > self.now):
            return "not_due"
        self.give(hold.parts, 0)
        hold.state = state
        return ""


class Machine(RuleBasedStateMachine):
    """One account an example, on one ledger for all examples."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    books: ClassVar[Books]
    numbers: ClassVar[count[int]]

    def __init__(self) -> None:
        super().__init__()
        self.run_number = next(self.numbers)
        self.account = f"run{self.run_number}"
        self.model = Model()
        self.started_at = self.books.clock.at
        self.sent: list[tuple[object, BillingReply]] = []
        self.n = 0
        self.do(OpenAccount(f"open/{self.account}", self.account, "x", "x"), "")
        self.give(100, priority=1, ends=float("inf"))
        self.give(60, priority=1, ends=50.0)

    def id(self, n: int) -> str:
        return f"{self.account}-h{n % 8}"

    def one_of(self, n: int, *states: str) -> str:
        """Return a hold in one of the states in three cases out of four, if there is one."""
        found = [hold_id for hold_id, hold in self.model.holds.items() if hold.state in states]
        return found[n // 4 % len(found)] if found and n % 4 != 3 else self.id(n // 4)

    def operation(self, kind: str) -> str:
        self.n += 1
        return f"{self.account}/{kind}/{self.n}"

    def do(self, command: object, expected: str) -> BillingReply:
        reply = self.loop.run_until_complete(self.books.send(command))
        assert reply.code == expected, (command, reply, expected)
        assert not reply.is_replay
        if reply.outcome != "retry":
            self.sent.append((command, reply))
        return reply

    @rule(amount=st.integers(1, 300), priority=st.integers(0, 1), ends=st.sampled_from([float("inf"), 50.0, 400.0]))
    def grant(self, amount: int, priority: int, ends: float) -> None:
        self.give(amount, priority=priority, ends=ends)

    def give(self, amount: int, *, priority: int, ends: float) -> None:
        name = f"{self.operation('grant')}"
        at = None if ends == float("inf") else self.books.clock.at + timedelta(seconds=ends)
        self.model.add(name, amount, priority, self.model.now + ends)
        self.do(GrantCredits(f"op/{name}", self.account, name, "paid", amount, priority, at, "x", "x"), "")

    @rule(n=HOLDS, amount=AMOUNTS, lease_s=st.sampled_from([50, 300]))
    def reserve(self, n: int, amount: int, lease_s: int) -> None:
        hold_id = f"{self.account}-h{len(self.model.holds)}" if n % 4 != 3 else self.id(n // 4)
        command = reserve(hold_id, amount, self.account, lease_s=lease_s)
        expected = self.model.reserve(hold_id, amount, lease_s)
        self.do(type(command)(**{**as_dict(command), "operation_id": self.operation("reserve")}), expected)

    @rule(n=HOLDS, amount=st.sampled_from((*PRICES, 10, 20, 1000)))
    def settle(self, n: int, amount: int) -> None:
        hold_id = self.one_of(n, "held", "disputed")
        expected = self.model.settle(hold_id, amount)
        self.do(settle(hold_id, amount, operation_id=self.operation("settle")), expected)

    @rule(n=HOLDS)
    def void(self, n: int) -> None:
        hold_id = self.one_of(n, "held", "disputed")
        expected = self.model.release(hold_id, "voided")
        self.do(void(hold_id, self.account, operation_id=self.operation("void")), expected)

    @rule(n=HOLDS)
    def dispute(self, n: int) -> None:
        hold_id = self.one_of(n, "held", "disputed")
        expected = self.model.resolved(hold_id) or ""
        if not expected:
            self.model.holds[hold_id].state = "disputed"
        command = dispute(hold_id)
        self.do(type(command)(self.operation("dispute"), command.hold_id, command.reason), expected)

    @rule(n=HOLDS)
    def refund_failed(self, n: int) -> None:
        hold_id = self.one_of(n, "held", "disputed")
        expected = self.model.resolved(hold_id) or ""
        command = failing(hold_id)
        self.do(type(command)(self.operation("failing"), command.hold_id, 3, "x"), expected)

    @rule(n=HOLDS, amount=AMOUNTS)
    def late_success(self, n: int, amount: int) -> None:
        hold_id = self.one_of(n, "voided", "expired", "burned")
        hold = self.model.holds.get(hold_id)
        expected = {None: "hold_unknown", "settled": "already_settled", "held": "invalid", "disputed": "invalid"}.get(
            hold.state if hold else None, "already_settled" if hold and hold.is_late else ""
        )
        if hold and not expected:
            hold.is_late = True
        command = late(hold_id, amount)
        self.do(type(command)(self.operation("late"), command.hold_id, amount, command.asset_sha256s), expected)

    @rule(n=HOLDS, amount=st.integers(1, 60))
    def refund(self, n: int, amount: int) -> None:
        hold_id, operation_id = self.one_of(n, "settled"), self.operation("refund")
        hold = self.model.holds.get(hold_id)
        expected = "hold_unknown" if hold is None else "not_settled" if hold.state != "settled" else ""
        if hold and not expected:
            if amount > hold.settled - hold.refunded:
                expected = "invalid"
            else:
                hold.refunded += amount
                self.model.spent -= amount
                self.model.add(f"refund/{operation_id}", amount, 0, float("inf"))
        self.do(refund(hold_id, amount, operation_id=operation_id), expected)

    @rule(seconds=st.sampled_from([60, 20, 400]))
    def wait(self, seconds: int) -> None:
        self.model.now += seconds
        self.books.clock.at += timedelta(seconds=seconds)

    @rule(n=HOLDS)
    def expire(self, n: int) -> None:
        hold_id = self.one_of(n, "held")
        expected = self.model.release(hold_id, "expired")
        command = expire_hold(hold_id)
        self.do(type(command)(self.operation("expire"), command.hold_id), expected)

    @rule(pick=st.integers(0, 10), is_void=st.booleans())
    def close_grant(self, pick: int, is_void: bool) -> None:
        names = sorted(self.model.grants)
        if not names:
            return
        name = names[pick % len(names)]
        grant = self.model.grants[name]
        expected = "grant_conflict" if grant["closed"] else ""
        if not is_void and grant["ends"] > self.model.now:  # type: ignore[operator]
            expected = "not_due"
        if not expected:
            grant["left"], grant["closed"] = 0, True
        operation_id = self.operation("close")
        command = VoidGrant(operation_id, name, "x", "x") if is_void else type(expire_grant(name))(operation_id, name)
        self.do(command, expected)

    @rule(pick=st.integers(0, 100))
    def deliver_again(self, pick: int) -> None:
        command, first = self.sent[pick % len(self.sent)]

        again = self.loop.run_until_complete(self.books.send(command))

        assert again.is_replay
        assert type(again)(**{**as_dict(again), "is_replay": False}) == first

    @rule(pick=st.integers(0, 100))
    def reuse_an_id(self, pick: int) -> None:
        command, _ = self.sent[pick % len(self.sent)]

        reply = self.loop.run_until_complete(self.books.send(OpenAccount(command.operation_id, "thief", "x", "x")))  # type: ignore[attr-defined]

        assert reply.code == "operation_conflict"

    @invariant()
    def balances_are_the_models(self) -> None:
        model = self.model
        expected = (model.left(), model.held(), model.spent, model.shortfall)
        assert self.loop.run_until_complete(self.books.balance(self.account)) == expected


def as_dict(struct: object) -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}  # type: ignore[attr-defined]


@pytest.fixture
def machine(postgres_dsn: str) -> Iterator[type[Machine]]:
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    books = loop.run_until_complete(stack.enter_async_context(postgres_books(postgres_dsn)))
    loop.run_until_complete(books.account("publisher"))
    Machine.loop, Machine.books, Machine.numbers = loop, books, count(1)
    yield Machine
    loop.run_until_complete(books.check())
    loop.run_until_complete(stack.aclose())
    loop.close()


def test_random_commands_leave_what_the_plain_model_says(machine: type[Machine]) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    # What hypothesis.seed sets on a test.
    machine._hypothesis_internal_use_seed = seed

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=N_EXAMPLES,
            stateful_step_count=N_STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=True,
            # Shrinking takes minutes on a real database; the seed brings the failure back.
            phases=(Phase.generate,),
        ),
    )
