"""What can never be true of the ledger: refused by the schema, and named by `verify` where somebody forced it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import asyncpg
import msgspec
import pytest
from tests.svc_billing.kit_core import Books, dispute, late, postgres_books, refund

from qraft_contracts.billing import PricedItem, ReserveCredits
from svc_billing.domain.commands import VoidGrant
from svc_billing.domain.events import chain_hash, decode_event


@pytest.fixture
async def books(postgres_dsn: str) -> AsyncIterator[Books]:
    """A ledger with one of everything: h1 settled and refunded, h2 voided and late, h3 open, h4 disputed."""
    async with postgres_books(postgres_dsn) as made:
        await made.account(granted=500)
        await made.account("other", granted=50)
        await made.grant("other", 10, grant_id="withdrawn")
        await made.send(VoidGrant("vg", "withdrawn", "x", "ann"))
        for hold_id in ("h1", "h2", "h3", "h4"):
            await made.reserve(hold_id, 40)
        await made.settle("h1", 30)
        await made.send(refund("h1", 10))
        await made.void("h2")
        await made.send(late("h2", 40))
        await made.send(dispute("h4"))
        await made.reserve("too-much", 1000)
        yield made


async def force(books: Books, statement: str) -> str:
    """Run a statement as the superuser with triggers and checks out of the way, as an intruder would."""
    assert books.dsn is not None
    connection = await asyncpg.connect(books.dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        return str(await connection.execute(statement))
    finally:
        await connection.close()


async def kinds(books: Books) -> set[tuple[str, str]]:
    return {(violation.kind, violation.where) for violation in (await books.verify()).violations}


async def test_untouched_ledger_holds(books: Books) -> None:
    report = await books.verify()

    assert report.holds
    assert report.n_events == (await books.reader.head()).seq
    assert report.n_open_holds == 2


@pytest.mark.parametrize("table", ["events", "price_versions"])
@pytest.mark.parametrize(
    "statement", ["UPDATE billing.{} SET seq = seq", "DELETE FROM billing.{}", "TRUNCATE billing.{}"]
)
async def test_events_and_prices_are_append_only(books: Books, table: str, statement: str) -> None:
    connection = await asyncpg.connect(books.dsn)
    try:
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await connection.execute(statement.format(table))
    finally:
        await connection.close()


SCHEMA_REFUSES = {
    "available below zero": "UPDATE billing.accounts SET available = -1, granted = granted - available - 1",
    "held below zero": "UPDATE billing.accounts SET held = -1, granted = granted - held - 1",
    "shortfall below zero": "UPDATE billing.accounts SET shortfall = -1, granted = granted + shortfall + 1",
    "credits out of nothing": "UPDATE billing.accounts SET available = available + 1 WHERE account_id = 'acme'",
    "second resolution of a hold": """INSERT INTO billing.events
        SELECT 1000, 'x', kind, account_id, 1000, hold_id, at, body, hash FROM billing.events
        WHERE kind = 'hold_settled'""",
    "operation twice": """INSERT INTO billing.events
        SELECT 1000, operation_id, 'x', account_id, 1000, hold_id, at, body, hash FROM billing.events WHERE seq = 1""",
    "account_seq twice": """INSERT INTO billing.events
        SELECT 1000, 'x', 'x', account_id, account_seq, hold_id, at, body, hash FROM billing.events WHERE seq = 1""",
    "seq twice": """INSERT INTO billing.events
        SELECT seq, 'x', 'x', account_id, 1000, hold_id, at, body, hash FROM billing.events WHERE seq = 1""",
    "hash of another length": """INSERT INTO billing.events
        SELECT 1000, 'x', 'x', account_id, 1000, hold_id, at, body, 'ab' FROM billing.events WHERE seq = 1""",
    "second head": "INSERT INTO billing.head SELECT false, seq, hash, price_version FROM billing.head",
    "held without a lease": "UPDATE billing.holds SET expires_at = NULL WHERE hold_id = 'h3'",
    "resolved hold in the table": "UPDATE billing.holds SET state = 'settled', expires_at = NULL",
    "account removed": "DELETE FROM billing.accounts",
}


@pytest.mark.parametrize("name", SCHEMA_REFUSES)
async def test_schema_itself_refuses(books: Books, name: str) -> None:
    connection = await asyncpg.connect(books.dsn)
    try:
        with pytest.raises((asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError)):
            await connection.execute(SCHEMA_REFUSES[name])
    finally:
        await connection.close()


TAMPERED = {
    "UPDATE billing.accounts SET available = available + 7, granted = granted + 7 WHERE account_id = 'acme'": (
        "account_differs", "account acme",
    ),
    "UPDATE billing.accounts SET grants = '[]' WHERE account_id = 'acme'": ("account_differs", "account acme"),
    "DELETE FROM billing.accounts WHERE account_id = 'other'": ("account_missing", "account other"),
    "INSERT INTO billing.accounts VALUES ('ghost', true, 1, 5, 0, 0, 0, 5, 0, '[]')": (
        "account_unfounded", "account ghost",
    ),
    "UPDATE billing.holds SET amount = 1 WHERE hold_id = 'h3'": ("hold_differs", "hold h3"),
    "UPDATE billing.holds SET expires_at = expires_at + interval '1 day' WHERE hold_id = 'h3'": (
        "hold_differs", "hold h3",
    ),
    "DELETE FROM billing.holds WHERE hold_id = 'h4'": ("hold_missing", "hold h4"),
    "INSERT INTO billing.holds SELECT 'h1', account_id, purpose, state, amount, made_at, expires_at, is_refund_failing,"
    " parts, made_seq, last_seq FROM billing.holds WHERE hold_id = 'h3'": ("hold_unfounded", "hold h1"),
    "UPDATE billing.grants SET amount = amount + 1 WHERE grant_id = 'withdrawn'": ("grant_differs", "grant withdrawn"),
    "UPDATE billing.grants SET closed_seq = NULL WHERE grant_id = 'withdrawn'": ("grant_differs", "grant withdrawn"),
    "UPDATE billing.price_versions SET rules = replace(rules, ':40', ':4')": ("prices_differ", "price list 1"),
    "UPDATE billing.head SET hash = decode(repeat('ab', 32), 'hex')": ("head_differs", "event 17"),
    "UPDATE billing.events SET hash = decode(repeat('ab', 32), 'hex') WHERE seq = 5": ("chain_broken", "event 5"),
    "UPDATE billing.events SET account_id = 'other', account_seq = 99 WHERE seq = 9": ("columns_differ", "event 9"),
    "DELETE FROM billing.events WHERE seq = 6": ("seq_gap", "event 7"),
    "UPDATE billing.events SET body = 'nonsense' WHERE seq = 6": ("event_unreadable", "event 6"),
}  # fmt: skip


@pytest.mark.parametrize("statement", TAMPERED)
async def test_row_changed_behind_the_triggers_is_named(books: Books, statement: str) -> None:
    assert (await books.verify()).holds

    done = await force(books, statement)

    assert not done.endswith(" 0"), done
    assert TAMPERED[statement] in await kinds(books)


async def forge(books: Books, kind: str, change: Callable[[dict[str, object]], None]) -> int:
    """Change the body of the first event of a kind and mend the whole chain behind it. Returns its seq."""
    assert books.dsn is not None
    connection = await asyncpg.connect(books.dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        rows = await connection.fetch("SELECT seq, kind, body FROM billing.events ORDER BY seq")
        target = next(row["seq"] for row in rows if row["kind"] == kind)
        previous = bytes(32)
        for row in rows:
            body = row["body"]
            if row["seq"] == target:
                fields = msgspec.json.decode(body)
                change(fields)
                body = msgspec.json.encode(fields)
                decode_event(body)
            previous = chain_hash(previous, body)
            update = "UPDATE billing.events SET body = $2, hash = $3 WHERE seq = $1"
            await connection.execute(update, row["seq"], body, previous)
        await connection.execute("UPDATE billing.head SET hash = $1", previous)
    finally:
        await connection.close()
    return int(target)


def _leg(n: int, amount: int) -> Callable[[dict[str, object]], None]:
    def change(fields: dict[str, object]) -> None:
        fields["postings"][n][2] += amount  # type: ignore[index]

    return change


def _set(name: str, n: int, value: object) -> Callable[[dict[str, object]], None]:
    def change(fields: dict[str, object]) -> None:
        fields[name][n] = value  # type: ignore[index]

    return change


def _drop(name: str) -> Callable[[dict[str, object]], None]:
    def change(fields: dict[str, object]) -> None:
        del fields[name]

    return change


FORGED = [
    ("credits_granted", _leg(0, -5), "postings_unbalanced"),
    ("credits_granted", _leg(0, -5), "sum_not_zero"),
    ("credits_reserved", _set("after", 0, 10**6), "balances_differ"),
    ("credits_reserved", _set("after", 0, 10**6), "credits_lost"),
    ("credits_reserved", _set("after", 0, -5), "balance_negative"),
    ("credits_reserved", _set("hold", 2, 1), "held_differs"),
    ("credits_reserved", _drop("moves"), "grants_differ"),
    ("hold_settled", _drop("asset_sha256s"), "evidence_missing"),
    ("hold_settled", _set("hold", 2, 99), "hold_changed"),
    ("settlement_refunded", _set("hold", 4, 11), "refund_exceeds"),
]


@pytest.mark.parametrize(("kind", "change", "violation"), FORGED)
async def test_forged_event_with_a_mended_chain_is_named(
    books: Books, kind: str, change: Callable[[dict[str, object]], None], violation: str
) -> None:
    seq = await forge(books, kind, change)

    found = (await books.verify()).violations

    named = [it for it in found if it.kind == violation]
    assert named, found
    assert "chain_broken" not in {it.kind for it in found}
    assert violation == "sum_not_zero" or any(f"event {seq}" in f"{it.where} {it.detail}" for it in named)


async def test_second_resolution_is_named_with_its_hold(books: Books) -> None:
    await force(books, "DROP INDEX billing.hold_resolved_once")
    rows = await books.reader.events_of("acme")
    settled = next(it.event for it in rows if it.event.kind == "hold_settled")
    head = await books.reader.head()
    twice = msgspec.structs.replace(
        settled, seq=head.seq + 1, operation_id="again", account_seq=rows[-1].event.account_seq + 1
    )
    body = msgspec.json.encode(twice)
    connection = await asyncpg.connect(books.dsn)
    await connection.execute(
        "INSERT INTO billing.events VALUES ($1, 'again', 'hold_settled', 'acme', $2, 'h1', now(), $3, $4)",
        twice.seq, twice.account_seq, body, chain_hash(head.hash, body),
    )  # fmt: skip
    await connection.close()

    assert ("hold_resolved_twice", "hold h1") in await kinds(books)


async def test_hold_id_reserved_again_after_its_resolution_is_named(books: Books) -> None:
    connection = await asyncpg.connect(books.dsn)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("UPDATE billing.events SET seq = 1000 WHERE kind = 'credits_reserved' AND hold_id = 'h2'")
    await connection.close()

    assert ("hold_reserved_twice", "hold h2") in await kinds(books)


async def test_verification_is_given_up_after_a_bounded_number_of_violations(books: Books) -> None:
    for n in range(150):
        await books.reserve(f"more-{n}", 0)
    await force(books, "UPDATE billing.events SET hash = decode(repeat('ab', 32), 'hex')")

    report = await books.verify()

    assert not report.holds and not report.is_complete and len(report.violations) == 100


async def test_every_event_of_the_books_is_balanced_by_plain_sql(books: Books) -> None:
    assert books.dsn is not None
    item = PricedItem("simulated", "m", "edit", "1024x1024", "low", 2, 1)
    await books.ok(ReserveCredits("r9", "acme", "h9", item, 60, "job/9"))
    connection = await asyncpg.connect(books.dsn)
    unbalanced = await connection.fetch(
        """SELECT seq, leg ->> 1 AS unit FROM billing.events,
            jsonb_array_elements(coalesce(convert_from(body, 'UTF8')::jsonb -> 'postings', '[]')) leg
        GROUP BY 1, 2 HAVING sum((leg ->> 2)::bigint) <> 0"""
    )
    gaps = await connection.fetchval("SELECT max(seq) - count(*) FROM billing.events")
    chain = await connection.fetchval(
        """SELECT count(*) FROM (SELECT seq, hash, body,
            coalesce(lag(hash) OVER (ORDER BY seq), decode(repeat('00', 32), 'hex')) AS prev FROM billing.events) e
        WHERE hash <> sha256(prev || body)"""
    )
    await connection.close()

    assert (unbalanced, gaps, chain) == ([], 0, 0)
