"""The API's OpenAPI 3.1 document, made from the structs that the routes decode and encode."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec

from svc_billing.api import bodies, views
from svc_billing.api.report_html import LANGUAGES
from svc_billing.usecases.holds import HOLD_FILTERS
from svc_billing.usecases.report import WeeklyReport
from svc_billing.usecases.statement import N_LINES_MAX

VERSION: Final = "1"
N_PAGE: Final = 100
N_PAGE_MAX: Final = 500
SEQ_MAX: Final = 2**63 - 1
_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_WEEK: Final = r"^2[0-9]{3}-W(0[1-9]|[1-4][0-9]|5[0-3])$"
# Answers of every route, by status.
_ERRORS: Final = {
    400: "the body is no JSON",
    401: "no admin token, or another one",
    404: "what the path names does not exist",
    409: "a rule of the ledger said no; nothing has changed",
    413: "the body is too large",
    422: "a parameter or field does not fit; the message names it",
    503: "the database is away, too much waits, or no admin token is configured; the same request may work later",
}
_COMMON: Final = (401, 503)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. media: type and struct of a success; None = text."""

    method: str
    path: str
    summary: str
    media: dict[str, type[msgspec.Struct] | None]
    parameters: tuple[dict[str, Any], ...] = ()
    body: type[msgspec.Struct] | None = None
    errors: tuple[int, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def query_names(self) -> frozenset[str]:
        """Return the names of the query parameters."""
        return frozenset(it["name"] for it in self.parameters if it["in"] == "query")


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _in_path(name: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}


_LIMIT: Final = _query(
    "limit", {"type": "integer", "minimum": 1, "maximum": N_PAGE_MAX, "default": N_PAGE}, "length of the page"
)
_CSV_LIMIT: Final = _query(
    "limit", {"type": "integer", "minimum": 1, "maximum": N_LINES_MAX, "default": N_LINES_MAX}, "number of lines"
)
_AFTER: Final = _query(
    "after", {"type": "integer", "minimum": 0, "maximum": SEQ_MAX, "default": 0}, "next_after of the page before"
)
_AFTER_ID: Final = _query(
    "after", {"type": "string", "pattern": bodies.ACCOUNT_ID_PATTERN}, "next_after of the page before"
)
_STATE: Final = _query("state", {"enum": list(HOLD_FILTERS), "default": "open"}, "which holds")
_ISO_WEEK: Final = _query("week", {"type": "string", "pattern": _WEEK}, "ISO week; without it the one that goes on")
_LANGUAGE: Final = _query("lang", {"enum": list(LANGUAGES), "default": LANGUAGES[0]}, "shown first")
_ACCOUNT: Final = _in_path("account_id", bodies.ACCOUNT_ID_PATTERN)
_KEY: Final[dict[str, Any]] = {
    "name": bodies.IDEMPOTENCY_KEY, "in": "header", "required": False,
    "schema": {"type": "string", "pattern": bodies.ID_PATTERN},
    "description": "the operation_id, for callers who keep it out of the body",
}  # fmt: skip
_LINK: Final = {"link": "where the rest is, if there is more"}
_POST: Final = (400, 409, 413, 422)
_DONE: Final[dict[str, type[msgspec.Struct] | None]] = {_JSON: views.DoneView}
_GRANT: Final = _in_path("grant_id", bodies.ID_PATTERN)
_HOLD: Final = _in_path("hold_id", bodies.ID_PATTERN)

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation("get", "/api/openapi.json", "This document.", {_JSON: None}),
    Operation("get", "/api/accounts", "List accounts by id.",
              {_JSON: views.AccountsPage}, (_AFTER_ID, _LIMIT), None, (422,)),
    Operation("post", "/api/accounts", "Open an account.", _DONE, (_KEY,), bodies.OpenAccountBody, _POST),
    Operation("get", "/api/accounts/{account_id}", "Read one account: balance, open holds, grants.",
              {_JSON: views.AccountDetail}, (_ACCOUNT,), None, (404, 422)),
    Operation("get", "/api/accounts/{account_id}/statement", "Read what happened on an account, oldest first.",
              {_JSON: views.StatementPage}, (_ACCOUNT, _AFTER, _LIMIT), None, (404, 422)),
    Operation("get", "/api/accounts/{account_id}/statement.csv", "Download what happened on an account.",
              {"text/csv": None}, (_ACCOUNT, _AFTER, _CSV_LIMIT), None, (404, 422), _LINK),
    Operation("get", "/api/accounts/{account_id}/holds", "List an account's open holds.",
              {_JSON: views.HoldsPage}, (_ACCOUNT, _AFTER, _LIMIT), None, (404, 422)),
    Operation("post", "/api/accounts/{account_id}/grants", "Give credits.",
              _DONE, (_ACCOUNT, _KEY), bodies.GrantBody, (*_POST, 404)),
    Operation("post", "/api/grants/{grant_id}/void", "Withdraw what is left of a grant.",
              _DONE, (_GRANT, _KEY), bodies.VoidGrantBody, (*_POST, 404)),
    Operation("get", "/api/holds", "List holds of all accounts.",
              {_JSON: views.HoldsPage}, (_STATE, _AFTER, _LIMIT), None, (422,)),
    Operation("post", "/api/holds/{hold_id}/refund", "Give back what a settled hold was charged.",
              _DONE, (_HOLD, _KEY), bodies.RefundBody, (*_POST, 404)),
    Operation("get", "/api/prices", "Read the price list.", {_JSON: views.PricesView}),
    Operation("post", "/api/prices", "Replace the price list.", _DONE, (_KEY,), bodies.PricesBody, _POST),
    Operation("get", "/api/reports/weekly.json", "Read the weekly cost and utilization report.",
              {_JSON: WeeklyReport}, (_ISO_WEEK,), None, (422,)),
    Operation("get", "/api/reports/weekly.html", "Read the weekly report as a page that stands alone.",
              {"text/html": None}, (_ISO_WEEK, _LANGUAGE), None, (422,)),
    Operation("get", "/api/reports/weekly.csv", "Download the weekly report.",
              {"text/csv": None}, (_ISO_WEEK,), None, (422,)),
)  # fmt: skip


@cache
def openapi() -> bytes:
    """Return the document as JSON."""
    kinds: set[type[msgspec.Struct]] = {
        kind for it in OPERATIONS for kind in (*it.media.values(), it.body) if kind is not None
    }
    ordered: list[type[msgspec.Struct]] = sorted([*kinds, views.ErrorView], key=_name)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for it in OPERATIONS:
        paths.setdefault(it.path, {})[it.method] = _operation(it)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "svc_billing admin API",
            "version": VERSION,
            "description": "Accounts, grants, holds, prices and reports of the credit ledger. Amounts are whole "
            "micro-credits. Every POST needs an id made by the caller and may be sent again under it.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"admin": []}],
    }
    return msgspec.json.encode(document)


def _operation(it: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": _success(it)}
    for status in sorted({*it.errors, *_COMMON}):
        responses[str(status)] = {"description": _ERRORS[status], "content": {_JSON: {"schema": _ref(views.ErrorView)}}}
    name = it.path.removeprefix("/api/").replace("/", "_").replace(".", "_").translate({123: None, 125: None})
    found: dict[str, Any] = {"operationId": f"{it.method}_{name}", "summary": it.summary, "responses": responses}
    if it.parameters:
        found["parameters"] = list(it.parameters)
    if it.body is not None:
        found["requestBody"] = {"required": True, "content": {_JSON: {"schema": _ref(it.body)}}}
    return found


def _success(it: Operation) -> dict[str, Any]:
    content = {
        media: {"schema": _ref(kind) if kind is not None else {"type": "object" if media == _JSON else "string"}}
        for media, kind in it.media.items()
    }
    found: dict[str, Any] = {"description": "done", "content": content}
    if it.headers:
        found["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in it.headers.items()
        }
    return found


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=_name(kind))}


def _name(kind: type) -> str:
    return kind.__name__
