"""Every verb over a real bus, what is refused before it reaches the ledger, and usage that is booked once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.kit.servers import postgres_server
from tests.svc_billing.edge_kit import (
    ASSET,
    ITEM,
    PER_IMAGE,
    ask,
    ask_until_decided,
    bus_client,
    fund,
    ledger_on,
    reserve,
    running,
    settle,
    void,
)

from qraft_bus.nats import NatsBus
from qraft_bus.port import OutMessage
from qraft_contracts import headers as names
from qraft_contracts.billing import (
    BILLING_COMMANDS,
    BillingReply,
    DisputeHold,
    EstimateCredits,
    ListOpenHolds,
    ReadBalance,
    RecordLateSuccess,
    RecordRefundFailure,
    ReserveCredits,
    VoidHold,
)
from qraft_contracts.codec import encode
from qraft_contracts.origin import Origin
from qraft_contracts.usage import USAGE_COMPUTE, ComputeUsage
from svc_billing.handlers import USAGE_DURABLE

pytestmark = [pytest.mark.nats, pytest.mark.postgres]

HOLD = 2 * PER_IMAGE
ENDED_AT = datetime.now(UTC).replace(microsecond=0)


async def test_every_verb_is_answered_over_the_bus(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme")
    asked = set()

    async def tell(command):
        asked.add(type(command))
        return await ask(bus, command)

    async with running(nats_url, postgres_dsn), bus_client(nats_url) as bus:
        priced = await tell(EstimateCredits(ITEM))
        reserved = await tell(reserve("a"))
        balance = await tell(ReadBalance("acme"))
        listed = await tell(ListOpenHolds("job/", datetime.now(UTC) + timedelta(minutes=1)))
        disputed = await tell(DisputeHold("dispute/a", "hold/a", "read time-out"))
        settled = await tell(settle("a", PER_IMAGE))
        await tell(reserve("b"))
        failing = await tell(RecordRefundFailure("failing/b", "hold/b", 3, "billing was away"))
        voided = await tell(void("b"))
        late = await tell(RecordLateSuccess("late/b", "hold/b", PER_IMAGE, (ASSET,)))
        after = await tell(ReadBalance("acme"))

    assert asked == set(BILLING_COMMANDS)
    assert priced.estimate is not None and priced.estimate.total_microcredits == HOLD
    assert reserved.hold is not None and reserved.hold.state == "held"
    assert balance.balance is not None and balance.balance.held_microcredits == HOLD
    assert [hold.hold_id for hold in listed.holds] == ["hold/a"]
    assert disputed.hold is not None and disputed.hold.state == "disputed"
    assert settled.hold is not None and settled.hold.settled_microcredits == PER_IMAGE
    assert failing.hold is not None and failing.hold.is_refund_failing
    assert voided.hold is not None and voided.hold.state == "voided"
    assert late.outcome == "ok"
    assert after.balance is not None
    assert (after.balance.held_microcredits, after.balance.spent_microcredits) == (0, PER_IMAGE)


async def test_same_command_again_gives_the_first_answer_and_other_content_is_refused(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme")
    async with running(nats_url, postgres_dsn), bus_client(nats_url) as bus:
        first = await ask(bus, reserve("a"))
        again = await ask(bus, reserve("a"))
        other = await ask(bus, reserve("a", lease_s=601))

    assert msgspec.structs.replace(again, is_replay=False) == first
    assert again.is_replay
    assert (other.outcome, other.code) == ("refused", "operation_conflict")


async def test_wrong_schema_header_is_refused_by_name(nats_url, postgres_dsn):
    async with running(nats_url, postgres_dsn), bus_client(nats_url) as bus:
        for schema in ("billing.reserve/2", "billing.settle/1", ""):
            data = await bus.request("billing.reserve", encode(reserve("a")), schema=schema, timeout_s=5.0)

            reply = msgspec.json.decode(data, type=BillingReply)
            assert (reply.outcome, reply.code) == ("refused", "invalid")
            assert names.SCHEMA in reply.message
            assert "billing.reserve/1" in reply.message


async def test_undecodable_commands_are_refused_naming_the_field_and_store_nothing(nats_url, postgres_dsn):
    whole = encode(reserve("a"))
    bodies = {
        b"": "ReserveCredits",
        b"{": "ReserveCredits",
        b"\xff\xfe": "ReserveCredits",
        whole.replace(b'"lease_s":600', b'"lease_s":"600"'): "$.lease_s",
        whole.replace(b'"lease_s":600', b'"lease_s":6e99'): "$.lease_s",
        whole.replace(b'"n":2', b'"n":2.5'): "$.item.n",
        whole.replace(b'"account_id"', b'"acount_id"'): "account_id",
        b"[" * 100_000: "ReserveCredits",
        b'{"unknown": ' + b"[" * 100_000: "ReserveCredits",
    }
    async with running(nats_url, postgres_dsn), bus_client(nats_url) as bus:
        for body, says in bodies.items():
            data = await bus.request("billing.reserve", body, schema=ReserveCredits.SCHEMA, timeout_s=5.0)
            reply = msgspec.json.decode(data, type=BillingReply)

            assert (reply.outcome, reply.code) == ("refused", "invalid"), body[:50]
            assert says in reply.message
    async with ledger_on(postgres_dsn) as (_, database):
        assert await database.read.fetchval("SELECT count(*) FROM billing.events") == 0


async def test_what_cannot_be_answered_is_named(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme")
    expected = {
        ReadBalance("nobody"): "account_unknown",
        ReadBalance("system"): "account_unknown",
        ReadBalance("x' OR 1=1 --"): "account_unknown",
        ReadBalance("x\0"): "account_unknown",
        ListOpenHolds("job/\0", datetime.now(UTC)): "invalid",
        EstimateCredits(msgspec.structs.replace(ITEM, quality="auto")): "price_unknown",
        EstimateCredits(msgspec.structs.replace(ITEM, n=0)): "invalid",
        settle("never"): "hold_unknown",
        reserve("a", account="nobody"): "account_unknown",
        reserve("b", account="Not An Account"): "invalid",
        reserve("bad\nid"): "invalid",
        VoidHold("v\0", "h", "acme", ""): "invalid",
        VoidHold("v", "h", "acme", "\0"): "",
        VoidHold("w", "h2", "acme\0", ""): "invalid",
    }
    async with running(nats_url, postgres_dsn), bus_client(nats_url) as bus:
        for command, code in expected.items():
            reply = await ask(bus, command)

            assert reply.code == code, command
            assert reply.outcome == {"hold_unknown": "retry", "": "ok"}.get(code, "refused")
            assert reply.message or reply.outcome == "ok"


async def test_more_commands_than_may_wait_are_told_to_come_again_and_then_all_are_done(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme")
    async with running(nats_url, postgres_dsn, n_waiting_max=4), bus_client(nats_url) as bus:
        commands = [reserve(str(i)) for i in range(200)]
        first = await asyncio.gather(*(ask(bus, command) for command in commands))
        last = await asyncio.gather(*(ask_until_decided(bus, command) for command in commands))

    overloaded = [reply for reply in first if reply.outcome == "retry"]
    assert overloaded
    assert {reply.code for reply in overloaded} == {"overloaded"}
    assert {reply.outcome for reply in last} == {"ok"}


async def test_answers_come_while_the_database_is_away(nats_url):
    with postgres_server() as server, server.fresh_database() as dsn:
        await fund(dsn, "acme")
        async with running(nats_url, dsn), bus_client(nats_url) as bus:
            server.crash()
            replies = [await ask(bus, reserve("a")), await ask(bus, ReadBalance("acme")), await ask(bus, settle("a"))]
            server.start()
            recovered = await ask_until_decided(bus, reserve("a"))

    assert {(reply.outcome, bool(reply.message)) for reply in replies} == {("retry", True)}
    assert recovered.outcome == "ok"


async def test_lease_that_ends_gives_the_hold_back_and_a_late_settle_is_refused(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme")
    async with running(nats_url, postgres_dsn, expire_interval_s=0.1), bus_client(nats_url) as bus:
        before = await ask(bus, ReadBalance("acme"))
        await ask(bus, reserve("a", lease_s=1))
        async with asyncio.timeout(10.0):
            while (await ask(bus, ReadBalance("acme"))).balance != before.balance:
                await asyncio.sleep(0.05)
        late = await ask(bus, settle("a"))

    assert (late.outcome, late.code) == ("refused", "already_expired")


def used(name: str, *, cpu_ms: int = 1_500, column: str = "training") -> ComputeUsage:
    return ComputeUsage(
        usage_id=f"svc_train/{name}",
        column=column,
        service="svc_train",
        purpose="walk-forward",
        stop_condition="300 rounds",
        started_at=ENDED_AT - timedelta(seconds=9),
        ended_at=ENDED_AT,
        cpu_ms=cpu_ms,
        gpu_ms=0,
        n_bytes=10,
        origin=Origin.REPLAY,
    )


def message(usage: ComputeUsage, *, message_id: str) -> OutMessage:
    return OutMessage(
        subject=USAGE_COMPUTE,
        data=encode(usage),
        message_id=message_id,
        schema=ComputeUsage.SCHEMA,
        as_of=usage.ended_at,
        origin=usage.origin,
        lineage="test",
    )


async def until_no_lag(bus: NatsBus) -> None:
    async with asyncio.timeout(10.0):
        while await bus.lag("USAGE", USAGE_DURABLE):
            await asyncio.sleep(0.02)


async def test_usage_is_booked_once_however_often_it_is_told(nats_url, postgres_dsn):
    async with running(nats_url, postgres_dsn), bus_client(nats_url) as bus:
        for i, usage in enumerate((used("a"), used("a"), used("b"), used("a", cpu_ms=9), used("c", column="nonsense"))):
            await bus.publish(message(usage, message_id=f"usage/{i}"))
        await bus.publish(replace(message(used("d"), message_id="usage/undecodable"), data=b'{"usage_id": 1}'))
        await until_no_lag(bus)
        letter = await bus.last("deadletter.usage")
        deep = replace(message(used("e"), message_id="usage/deep"), data=b'{"unknown": ' + b"[" * 50_000)
        await bus.publish(deep)
        await until_no_lag(bus)
        second = await bus.last("deadletter.usage")

    async with ledger_on(postgres_dsn) as (_, database):
        kinds = await database.read.fetch("SELECT operation_id, kind FROM billing.events ORDER BY seq")
    assert [tuple(row) for row in kinds] == [
        ("usage/svc_train/a", "usage_booked"),
        ("usage/svc_train/b", "usage_booked"),
        ("usage/svc_train/c", "command_refused"),
    ]
    assert letter is not None and letter.data == b'{"usage_id": 1}'
    assert second is not None and second.data == deep.data
