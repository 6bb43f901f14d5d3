"""The admin API on a real socket: who gets in, what it answers, and that bad input is never our fault."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from tests.kit.servers import postgres_server
from tests.svc_billing.edge_kit import (
    ASSET,
    PER_IMAGE,
    TOKEN,
    fund,
    http_client,
    ledger_on,
    reserve,
    running,
    settle,
    void,
)
from tests.svc_billing.test_handlers import ENDED_AT, used

from qraft_contracts.billing import DisputeHold, RecordLateSuccess, RecordRefundFailure
from qraft_contracts.ledger import check_account_id
from svc_billing.api.bodies import BODY_BYTES_MAX
from svc_billing.api.openapi import OPERATIONS
from svc_billing.domain.commands import BookUsage
from svc_billing.usecases.report import week_of

pytestmark = [pytest.mark.nats, pytest.mark.postgres]


@pytest.fixture
async def client(nats_url, postgres_dsn) -> AsyncIterator[httpx.AsyncClient]:
    """The service with two funded accounts, some holds in every state and a job's usage, and a client of its API."""
    await fund(postgres_dsn, "acme", "bolt")
    async with running(nats_url, postgres_dsn) as application, http_client(application) as http:
        async with ledger_on(postgres_dsn) as (ledger, _):
            for command in (
                reserve("a"), settle("a", PER_IMAGE), reserve("b"), void("b"), reserve("c"),
                DisputeHold("dispute/c", "hold/c", "read time-out"), reserve("d"),
                RecordRefundFailure("failing/d", "hold/d", 3, "=cmd|'/c calc'!A1"),
                RecordLateSuccess("late/b", "hold/b", PER_IMAGE, (ASSET,)),
                BookUsage("usage/svc_train/a", used("a", cpu_ms=70_000)),
            ):  # fmt: skip
                assert (await ledger.submit(command)).outcome == "ok"
        yield http


def code_of(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    assert error["message"]
    return str(error["code"])


def every_route() -> list[tuple[str, str]]:
    names = {"account_id": "acme", "grant_id": "grant/acme", "hold_id": "hold/a"}
    return [(it.method, it.path.format(**names)) for it in OPERATIONS]


async def test_without_a_configured_token_every_route_says_what_to_set_but_health_answers(nats_url, postgres_dsn):
    async with running(nats_url, postgres_dsn, token=None) as application, http_client(application) as http:
        answers = [await http.request(method, path) for method, path in every_route()]
        health = await http.get("/healthz")

    assert {answer.status_code for answer in answers} == {503}
    assert {code_of(answer) for answer in answers} == {"admin_token_not_set"}
    assert all("QRAFT_BILLING_ADMIN_TOKEN" in answer.text for answer in answers)
    assert health.status_code == 200


async def test_without_the_token_every_route_is_closed(client):
    client.headers.pop("authorization")
    wrong = (None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", "Bearer \xff\xfe")
    for authorization in wrong:
        headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}

        answers = [await client.request(method, path, headers=headers) for method, path in every_route()]

        assert {(answer.status_code, code_of(answer)) for answer in answers} == {(401, "unauthorized")}, authorization
        assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in answers)
        assert all(TOKEN not in answer.text for answer in answers)


async def test_accounts_are_listed_in_pages(client):
    first = (await client.get("/api/accounts", params={"limit": 1})).json()
    second = (await client.get("/api/accounts", params={"limit": 1, "after": first["next_after"]})).json()
    third = (await client.get("/api/accounts", params={"limit": 1, "after": second["next_after"]})).json()

    assert [it["accounts"][0]["account_id"] for it in (first, second)] == ["acme", "bolt"]
    assert third == {"accounts": [], "next_after": None}


async def test_account_shows_balance_open_holds_and_what_is_left_of_its_grants(client):
    found = (await client.get("/api/accounts/acme")).json()

    assert found["account"]["balance"] == {
        "account_id": "acme", "available_microcredits": 995 * PER_IMAGE, "held_microcredits": 4 * PER_IMAGE,
        "spent_microcredits": PER_IMAGE, "shortfall_microcredits": 0,
    }  # fmt: skip
    assert [hold["hold_id"] for hold in found["open_holds"]] == ["hold/c", "hold/d"]
    (grant,) = found["grants"]
    assert (grant["remaining_microcredits"], grant["held_microcredits"]) == (995 * PER_IMAGE, 4 * PER_IMAGE)


async def test_statement_pages_join_to_the_whole(client):
    whole = (await client.get("/api/accounts/acme/statement")).json()
    joined, after = [], 0
    while after is not None:
        page = (await client.get("/api/accounts/acme/statement", params={"limit": 3, "after": after})).json()
        joined += page["lines"]
        after = page["next_after"]

    assert joined == whole["lines"]
    assert [line["account_seq"] for line in joined] == list(range(1, len(joined) + 1))
    assert joined[-1]["available_microcredits"] == 995 * PER_IMAGE


async def test_statement_csv_is_bounded_linked_and_runs_nothing(client):
    first = await client.get("/api/accounts/acme/statement.csv", params={"limit": 3})
    rest = await client.get(first.links["next"]["url"].replace("limit=3", "limit=100"))

    rows = [row for answer in (first, rest) for row in csv.DictReader(io.StringIO(answer.text, newline=""))]
    whole = (await client.get("/api/accounts/acme/statement")).json()["lines"]
    assert [int(row["account_seq"]) for row in rows] == [line["account_seq"] for line in whole]
    assert "link" not in rest.headers
    assert first.headers["content-type"].startswith("text/csv")
    assert "attachment" in first.headers["content-disposition"]
    failing = next(row for row in rows if row["kind"] == "refund_failed")
    assert failing["note"].startswith("'=cmd")


async def test_holds_are_found_by_state(client):
    ids = {
        "open": ["hold/c", "hold/d"],
        "held": ["hold/d"],
        "disputed": ["hold/c"],
        "refund_failing": ["hold/d"],
        "settled": ["hold/a"],
        "voided": ["hold/b"],
        "expired": [],
    }

    found = {state: (await client.get("/api/holds", params={"state": state})).json()["holds"] for state in ids}

    assert {state: [hold["hold_id"] for hold in holds] for state, holds in found.items()} == ids


async def test_holds_come_in_pages_also_of_one_account(client):
    first = (await client.get("/api/accounts/acme/holds", params={"limit": 1})).json()
    second = (await client.get("/api/accounts/acme/holds", params={"limit": 1, "after": first["next_after"]})).json()
    others = (await client.get("/api/accounts/bolt/holds")).json()

    assert [it["holds"][0]["hold_id"] for it in (first, second)] == ["hold/c", "hold/d"]
    assert others["holds"] == []


async def test_report_is_served_in_three_forms(client):
    week = {"week": week_of(ENDED_AT)}
    report = (await client.get("/api/reports/weekly.json", params=week)).json()
    page = await client.get("/api/reports/weekly.html", params={**week, "lang": "zh"})
    sheet = await client.get("/api/reports/weekly.csv", params=week)

    training = next(it for it in report["columns"] if it["column"] == "training")
    assert (training["n_jobs"], training["cpu_ms"], training["n_replayed"], training["n_cost_unknown"]) == (
        1,
        70_000,
        1,
        1,
    )
    assert [job["usage_id"] for job in report["heavy_jobs"]] == ["svc_train/a"]
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert '<html lang="zh">' in page.text
    assert "svc_train/a" in page.text
    assert "svc_train/a" in sheet.text


async def test_admin_opens_funds_withdraws_refunds_and_prices(client):
    opened = await client.post("/api/accounts", json={"account_id": "cork", "operation_id": "op/1"})
    expires_at = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    body = {"grant_id": "gift", "amount_microcredits": 5_000_000, "is_promotional": True, "expires_at": expires_at}
    granted = await client.post("/api/accounts/cork/grants", json=body, headers={"Idempotency-Key": "op/2"})
    again = await client.post("/api/accounts/cork/grants", json=body, headers={"Idempotency-Key": "op/2"})
    other = await client.post(
        "/api/accounts/cork/grants", json={**body, "amount_microcredits": 6}, headers={"Idempotency-Key": "op/2"}
    )
    withdrawn = await client.post("/api/grants/gift/void", json={"reason": "mistake", "operation_id": "op/3"})
    refund = {"amount_microcredits": PER_IMAGE, "reason": "bad picture", "operation_id": "op/4"}
    refunded = await client.post("/api/holds/hold/a/refund", json=refund)
    too_much = await client.post("/api/holds/hold/a/refund", json={**refund, "operation_id": "op/5"})
    prices = (await client.get("/api/prices")).json()
    rule = {**prices["rules"][0], "per_image_microcredits": 7}
    published = await client.post("/api/prices", json={"rules": [rule], "operation_id": "op/6"})

    assert (opened.status_code, opened.json()["is_replay"]) == (200, False)
    assert granted.json()["balance"]["available_microcredits"] == 5_000_000
    assert (again.status_code, again.json()) == (200, {**granted.json(), "is_replay": True})
    assert (other.status_code, code_of(other)) == (409, "operation_conflict")
    assert withdrawn.json()["balance"]["available_microcredits"] == 0
    assert refunded.json()["balance"]["spent_microcredits"] == 0
    assert (too_much.status_code, code_of(too_much)) == (422, "invalid")
    assert published.status_code == 200
    assert (await client.get("/api/prices")).json() == {"version": 2, "rules": [rule]}


GRANT = {"grant_id": "g", "amount_microcredits": 1, "operation_id": "a"}
REFUND = {"amount_microcredits": 1, "reason": "", "operation_id": "a"}
OPEN = {"account_id": "x", "operation_id": "a"}


# method, path, body, status, code
MISFITS = [
    ("get", "/api/nothing", None, 404, "not_found"),
    ("delete", "/api/accounts", None, 405, "method_not_allowed"),
    ("get", "/api/accounts/nobody", None, 404, "account_unknown"),
    ("get", "/api/accounts/nobody/statement", None, 404, "account_unknown"),
    ("get", "/api/accounts/nobody/statement.csv", None, 404, "account_unknown"),
    ("get", "/api/accounts/nobody/holds", None, 404, "account_unknown"),
    ("get", "/api/accounts/system", None, 404, "account_unknown"),
    ("get", "/api/accounts/Not%20One", None, 422, "invalid"),
    ("get", "/api/accounts/%00", None, 422, "invalid"),
    ("get", "/api/accounts/a%0Ab", None, 422, "invalid"),
    ("get", "/api/no%0Asuch", None, 404, "not_found"),
    ("get", "/api/accounts?limit=0", None, 422, "invalid"),
    ("get", "/api/accounts?limit=501", None, 422, "invalid"),
    ("get", "/api/accounts?after=%FF", None, 422, "invalid"),
    ("get", "/api/holds?sate=disputed", None, 422, "invalid"),
    ("get", "/api/holds?state=open&state=held", None, 422, "invalid"),
    ("post", "/api/accounts?x=1", OPEN, 422, "invalid"),
    ("get", "/api/holds?state=lost", None, 422, "invalid"),
    ("get", "/api/holds?after=99999999999999999999", None, 422, "invalid"),
    ("get", "/api/reports/weekly.json?week=2026-W54", None, 422, "invalid"),
    ("get", "/api/reports/weekly.html?lang=xx", None, 422, "invalid"),
    ("post", "/api/accounts", b"", 400, "no_json"),
    ("post", "/api/accounts", b"\xff", 400, "no_json"),
    ("post", "/api/accounts", b"[" * 50_000, 422, "invalid"),
    ("post", "/api/accounts", b'{"account_id": "x", "y": ' + b"[" * 50_000, 422, "invalid"),
    ("post", "/api/accounts", {"account_id": "x"}, 422, "operation_id_missing"),
    ("post", "/api/accounts", {"account_id": "x", "operation_id": "a b"}, 422, "invalid"),
    ("post", "/api/accounts", {"account_id": "X", "operation_id": "a"}, 422, "invalid"),
    ("post", "/api/accounts", {**OPEN, "extra": 1}, 422, "invalid"),
    ("post", "/api/accounts", {**OPEN, "reason": "\x00"}, 422, "invalid"),
    ("post", "/api/accounts", {"account_id": "acme", "operation_id": "a"}, 409, "account_exists"),
    ("post", "/api/accounts", b" " * (BODY_BYTES_MAX + 1), 413, "body_too_large"),
    ("post", "/api/accounts/acme/grants", {**GRANT, "amount_microcredits": 1.5}, 422, "invalid"),
    ("post", "/api/accounts/acme/grants", {**GRANT, "amount_microcredits": 0}, 422, "invalid"),
    ("post", "/api/accounts/acme/grants", {**GRANT, "amount_microcredits": 10**30}, 422, "invalid"),
    ("post", "/api/accounts/acme/grants",
     {**GRANT, "expires_at": "2020-01-01T00:00:00"}, 422, "invalid"),
    ("post", "/api/accounts/acme/grants",
     {**GRANT, "expires_at": "2020-01-01T00:00:00Z"}, 422, "invalid"),
    ("post", "/api/accounts/nobody/grants", GRANT, 404, "account_unknown"),
    ("post", "/api/grants/none/void", {"reason": "", "operation_id": "a"}, 404, "grant_unknown"),
    ("post", "/api/holds/none/refund", REFUND, 404, "hold_unknown"),
    ("post", "/api/holds/hold/c/refund", REFUND, 409, "not_settled"),
    ("post", "/api/prices", {"rules": [], "operation_id": "a"}, 422, "invalid"),
]  # fmt: skip


async def test_what_does_not_fit_is_told_in_the_envelope(client):
    for i, (method, path, body, status, code) in enumerate(MISFITS):
        if isinstance(body, dict) and body.get("operation_id") == "a":
            body = {**body, "operation_id": f"misfit/{i}"}
        content = json.dumps(body).encode() if isinstance(body, dict) else body

        answer = await client.request(method, path, content=content)

        assert (answer.status_code, code_of(answer)) == (status, code), f"{method} {path} {answer.text}"


async def test_two_ids_that_differ_are_refused(client):
    answer = await client.post(
        "/api/accounts", json={"account_id": "x", "operation_id": "a"}, headers={"idempotency-key": "b"}
    )

    assert (answer.status_code, code_of(answer)) == (422, "operation_ids_differ")


async def test_database_that_is_away_is_a_503_that_says_when_to_come_again(nats_url):
    with postgres_server() as server, server.fresh_database() as dsn:
        async with running(nats_url, dsn) as application, http_client(application) as http:
            server.crash()
            read = await http.get("/api/accounts")
            written = await http.post("/api/accounts", json={"account_id": "x", "operation_id": "a"})
            server.start()

    assert {read.status_code, written.status_code} == {503}
    assert {code_of(read), code_of(written)} == {"postgres_away", "store_away"}
    assert read.headers["retry-after"] == written.headers["retry-after"] == "1"


def test_account_ids_of_the_api_are_those_of_the_ledger():
    assert check_account_id("a" * 63) == "a" * 63
