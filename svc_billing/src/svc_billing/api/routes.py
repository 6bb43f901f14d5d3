"""The admin API. Reads go to the reader, commands to the same Ledger as those that come over the bus."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from qraft_contracts.outcomes import Transient
from svc_billing.api.answers import (
    error_answer,
    json_answer,
    on_bad_request,
    on_http_error,
    on_transient,
    reply_answer,
    text_answer,
)
from svc_billing.api.auth import AdminOnly
from svc_billing.api.bodies import (
    PRICES_BODY_BYTES_MAX,
    AccountId,
    BadRequest,
    GrantBody,
    OpenAccountBody,
    PricesBody,
    RefundBody,
    VoidGrantBody,
    check_query,
    operation_id_of,
    path_id,
    query_choice,
    query_int,
    query_text,
    read_body,
)
from svc_billing.api.openapi import N_PAGE, N_PAGE_MAX, OPERATIONS, SEQ_MAX, openapi
from svc_billing.api.report_csv import report_csv
from svc_billing.api.report_html import CONTENT_SECURITY_POLICY, LANGUAGES, report_html
from svc_billing.api.statement_csv import statement_csv
from svc_billing.api.views import (
    AccountDetail,
    AccountsPage,
    HoldsPage,
    StatementPage,
    account_view,
    grant_view,
    prices_view,
)
from svc_billing.domain.commands import (
    PAID,
    PROMOTIONAL,
    GrantCredits,
    OpenAccount,
    PublishPrices,
    RefundSettlement,
    VoidGrant,
)
from svc_billing.domain.state import RESERVED_ACCOUNTS, Account
from svc_billing.ports import LedgerReader
from svc_billing.usecases.holds import HOLD_FILTERS, HoldsReader
from svc_billing.usecases.ledger import Ledger
from svc_billing.usecases.report import WriteWeeklyReport, week_bounds
from svc_billing.usecases.statement import N_LINES_MAX, read_statement

ACTOR: Final = "admin-api"
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class AdminApi:
    """The endpoints; `routes` lists them."""

    ledger: Ledger
    reader: LedgerReader
    holds: HoldsReader
    report: WriteWeeklyReport

    def routes(self, *, token: SecretStr | None) -> list[BaseRoute]:
        """Return the routes for qraft_runtime.service: everything under /api, for whoever has the token."""
        endpoints: dict[tuple[str, str], Endpoint] = {
            ("get", "/openapi.json"): self._openapi,
            ("get", "/accounts"): self._accounts,
            ("post", "/accounts"): self._open_account,
            ("get", "/accounts/{account_id}"): self._account,
            ("get", "/accounts/{account_id}/statement"): self._statement,
            ("get", "/accounts/{account_id}/statement.csv"): self._statement_csv,
            ("get", "/accounts/{account_id}/holds"): self._account_holds,
            ("post", "/accounts/{account_id}/grants"): self._grant,
            ("post", "/grants/{grant_id}/void"): self._void_grant,
            ("get", "/holds"): self._holds,
            ("post", "/holds/{hold_id}/refund"): self._refund,
            ("get", "/prices"): self._prices,
            ("post", "/prices"): self._publish_prices,
            ("get", "/reports/weekly.json"): self._report_json,
            ("get", "/reports/weekly.html"): self._report_html,
            ("get", "/reports/weekly.csv"): self._report_csv,
        }
        app = Starlette(
            routes=_routes(endpoints),
            exception_handlers={
                BadRequest: on_bad_request, Transient: on_transient, HTTPException: on_http_error,
            },
        )  # fmt: skip
        mount = Mount("/api", app=AdminOnly(app, token=token))
        # A path with a line end in it is ours too; as Starlette writes the pattern, its dot stops there.
        mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
        return [mount]

    async def _openapi(self, _request: Request) -> Response:
        return Response(openapi(), media_type="application/json")

    async def _accounts(self, request: Request) -> Response:
        limit = _limit(request)
        after = query_text(request, "after", kind=AccountId, default="")
        found = await self.reader.accounts(after=after, limit=limit)
        next_after = found[-1].account_id if len(found) == limit else None
        return json_answer(AccountsPage([account_view(it) for it in found], next_after))

    async def _account(self, request: Request) -> Response:
        account = await self._existing(request)
        if isinstance(account, Response):
            return account
        holds = await self.reader.holds_of(account.account_id, limit=N_PAGE_MAX)
        grants = await self.reader.grants(account.account_id)
        return json_answer(AccountDetail(account_view(account), holds, [grant_view(it, account) for it in grants]))

    async def _account_holds(self, request: Request) -> Response:
        limit = _limit(request)
        after = query_int(request, "after", default=0, low=0, high=SEQ_MAX)
        account = await self._existing(request)
        if isinstance(account, Response):
            return account
        found = await self.holds.holds(filter_by="open", account_id=account.account_id, after=after, limit=limit)
        return json_answer(HoldsPage([it.hold for it in found], found[-1].seq if len(found) == limit else None))

    async def _statement(self, request: Request) -> Response:
        limit = _limit(request)
        after = query_int(request, "after", default=0, low=0, high=SEQ_MAX)
        account = await self._existing(request)
        if isinstance(account, Response):
            return account
        lines = await read_statement(self.reader, account.account_id, after=after, limit=limit)
        next_after = lines[-1].account_seq if len(lines) == limit else None
        return json_answer(StatementPage(account.account_id, lines, next_after))

    async def _statement_csv(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=N_LINES_MAX, low=1, high=N_LINES_MAX)
        after = query_int(request, "after", default=0, low=0, high=SEQ_MAX)
        account = await self._existing(request)
        if isinstance(account, Response):
            return account
        account_id = account.account_id
        lines = await read_statement(self.reader, account_id, after=after, limit=limit)
        headers = _download(f"statement-{account_id}.csv")
        if len(lines) == limit:
            rest = f"after={lines[-1].account_seq}&limit={limit}"
            headers["link"] = f'</api/accounts/{account_id}/statement.csv?{rest}>; rel="next"'
        return text_answer(statement_csv(lines), media_type="text/csv", headers=headers)

    async def _holds(self, request: Request) -> Response:
        limit = _limit(request)
        after = query_int(request, "after", default=0, low=0, high=SEQ_MAX)
        chosen = query_choice(request, "state", choices=HOLD_FILTERS, default="open")
        found = await self.holds.holds(filter_by=chosen, account_id=None, after=after, limit=limit)
        return json_answer(HoldsPage([it.hold for it in found], found[-1].seq if len(found) == limit else None))

    async def _prices(self, _request: Request) -> Response:
        return json_answer(prices_view(await self.reader.prices()))

    async def _report_json(self, request: Request) -> Response:
        return json_answer(await self.report(_week(request)))

    async def _report_html(self, request: Request) -> Response:
        language = query_choice(request, "lang", choices=LANGUAGES, default=LANGUAGES[0])
        report = await self.report(_week(request))
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY}
        return text_answer(report_html(report, language=language), media_type="text/html", headers=headers)

    async def _report_csv(self, request: Request) -> Response:
        report = await self.report(_week(request))
        return text_answer(report_csv(report), media_type="text/csv", headers=_download(f"qraft-{report.week}.csv"))

    async def _open_account(self, request: Request) -> Response:
        body = await read_body(request, OpenAccountBody)
        operation_id = operation_id_of(request, body.operation_id)
        command = OpenAccount(operation_id, body.account_id, body.reason, ACTOR)
        return reply_answer(await self.ledger.submit(command))

    async def _grant(self, request: Request) -> Response:
        account_id = path_id(request, "account_id", pattern=AccountId)
        body = await read_body(request, GrantBody)
        command = GrantCredits(
            operation_id=operation_id_of(request, body.operation_id),
            account_id=account_id,
            grant_id=body.grant_id,
            category=PROMOTIONAL if body.is_promotional else PAID,
            amount_microcredits=body.amount_microcredits,
            priority=body.priority,
            expires_at=body.expires_at,
            reason=body.reason,
            actor=ACTOR,
        )
        return reply_answer(await self.ledger.submit(command))

    async def _void_grant(self, request: Request) -> Response:
        grant_id = path_id(request, "grant_id")
        body = await read_body(request, VoidGrantBody)
        operation_id = operation_id_of(request, body.operation_id)
        return reply_answer(await self.ledger.submit(VoidGrant(operation_id, grant_id, body.reason, ACTOR)))

    async def _refund(self, request: Request) -> Response:
        hold_id = path_id(request, "hold_id")
        body = await read_body(request, RefundBody)
        operation_id = operation_id_of(request, body.operation_id)
        command = RefundSettlement(operation_id, hold_id, body.amount_microcredits, body.reason, ACTOR)
        return reply_answer(await self.ledger.submit(command))

    async def _publish_prices(self, request: Request) -> Response:
        body = await read_body(request, PricesBody, n_bytes_max=PRICES_BODY_BYTES_MAX)
        operation_id = operation_id_of(request, body.operation_id)
        return reply_answer(await self.ledger.submit(PublishPrices(operation_id, tuple(body.rules), ACTOR)))

    async def _existing(self, request: Request) -> Account | Response:
        account_id = path_id(request, "account_id", pattern=AccountId)
        account = await self.reader.account(account_id)
        if account is None or account_id in RESERVED_ACCOUNTS:
            return error_answer(404, "account_unknown", f"expected an account that was opened, received {account_id}")
        return account


def _routes(endpoints: dict[tuple[str, str], Endpoint]) -> list[Route]:
    """Return one route a path, with its methods, that takes the query parameters of the document and no others."""
    allowed = {(it.method, it.path.removeprefix("/api")): it.query_names for it in OPERATIONS}
    assert endpoints.keys() == allowed.keys(), "expected the routes and the document to name the same"
    paths: dict[str, dict[str, Endpoint]] = {}
    for (method, path), endpoint in endpoints.items():
        paths.setdefault(path, {})[method] = _checked(endpoint, allowed[method, path])
    # An id may hold slashes, such as that of a refund's grant.
    slashed = {"{grant_id}": "{grant_id:path}", "{hold_id}": "{hold_id:path}"}
    return [
        Route(
            "/".join(slashed.get(part, part) for part in path.split("/")),
            _by_method(by_method),
            methods=list(by_method),
        )
        for path, by_method in paths.items()
    ]


def _checked(endpoint: Endpoint, names: frozenset[str]) -> Endpoint:
    async def handle(request: Request) -> Response:
        check_query(request, names)
        return await endpoint(request)

    return handle


def _by_method(endpoints: dict[str, Endpoint]) -> Endpoint:
    async def handle(request: Request) -> Response:
        # A HEAD is answered as a GET; the server sends no body.
        return await endpoints["get" if request.method == "HEAD" else request.method.lower()](request)

    return handle


def _limit(request: Request) -> int:
    return query_int(request, "limit", default=N_PAGE, low=1, high=N_PAGE_MAX)


def _week(request: Request) -> str | None:
    week = request.query_params.get("week")
    if week is not None:
        try:
            week_bounds(week)
        except ValueError as error:
            raise BadRequest(422, "invalid", f"week: {error}") from error
    return week


def _download(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
