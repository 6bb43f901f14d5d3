"""Who may see what: every route of the document × another account, nobody, a revoked key, a weaker scope."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from tests.svc_imagegen.api.conftest import TERMS
from tests.svc_imagegen.api.stage import Person, Stage, png, staged

from svc_imagegen.usecases.authenticate import ADMIN, CACHE_TTL_S, READ, WRITE

BODIES: dict[str, Any] = {
    "/api/jobs": {"model": "pic-1", "prompt": "x"},
    "/v1/images/generations": {"model": "pic-1", "prompt": "x"},
    "/v1/images/edits": {"prompt": "x", "images": [{"image_url": "data:image/png;base64,AAAA"}]},
    "/api/estimate": {"model": "pic-1"},
    "/api/keys": {"account_id": "a", "name": "n"},
    "/api/capabilities": {"provider": "scripted", "model": "pic-unknown", "feature": "edit", "support": "supported"},
}
OWNED = ("job_id", "asset_id")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged(TERMS) as running:
        yield running


@pytest.fixture(scope="module")
def operations(stage: Stage) -> list[tuple[str, str, dict[str, Any]]]:
    paths = httpx.get(f"{stage.url}/api/openapi.json").json()["paths"]
    return [(method.upper(), path, found) for path, methods in paths.items() for method, found in methods.items()]


@pytest.fixture(scope="module")
def owned(stage: Stage) -> dict[str, str]:
    """Ids of a finished job and its picture, and of a key, all of one account."""
    owner = stage.person()
    with httpx.Client(base_url=stage.url, headers=owner.headers) as client:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": "mine"}).json()["id"]
        while not (job := client.get(f"/api/jobs/{job_id}").json())["assets"]:
            time.sleep(0.02)
        assert client.get(f"/api/assets/{job['assets'][0]['id']}").status_code == 200
    return {"job_id": job_id, "asset_id": job["assets"][0]["id"], "key_id": owner.key_id, "model": "pic-1"}


def call(stage: Stage, method: str, path: str, person: Person | None, ids: dict[str, str]) -> httpx.Response:
    filled = re.sub(r"\{(\w+)\}", lambda it: ids[it[1]], path)
    headers = person.headers if person else {}
    return stage.http.request(method, filled, headers=headers, json=BODIES.get(path) if method == "POST" else None)


def revoke(stage: Stage, person: Person) -> None:
    """Revoke a key as another process would: in the store only."""
    assert stage.call(stage.keys.revoke(person.key_id, at=datetime.now(UTC)))


def test_objects_of_another_account_are_not_found_on_any_route(stage, operations, owned):
    stranger = stage.person()
    boss = stage.person(scopes=[ADMIN])
    routes = [(method, path) for method, path, _ in operations if any(f"{{{it}}}" in path for it in OWNED)]

    answers = {
        (method, path, who): call(stage, method, path, person, owned)
        for method, path in routes
        for who, person in (("stranger", stranger), ("admin of another account", boss))
    }
    unknown = call(stage, "GET", "/api/jobs/{job_id}", stranger, {"job_id": "0" * 32})

    assert len(routes) >= 6
    assert {case: it.status_code for case, it in answers.items()} == dict.fromkeys(answers, 404)
    assert answers["GET", "/api/jobs/{job_id}", "stranger"].json() == unknown.json()
    assert owned["job_id"] not in str([it.text for it in answers.values()])


def test_lists_hold_only_the_callers_own(stage, owned):
    stranger = stage.person()

    assert call(stage, "GET", "/api/jobs", stranger, {}).json()["data"] == []
    page = httpx.get(f"{stage.url}/api/jobs?before={owned['job_id']}", headers=stranger.headers)
    assert page.json()["data"] == []


@pytest.mark.parametrize("who", ["nobody", "wrong key", "revoked key"])
def test_no_route_but_the_document_answers_without_a_valid_key(stage, operations, owned, who):
    revoked = stage.person(scopes=[WRITE, READ, ADMIN])
    revoke(stage, revoked)
    person = {"nobody": None, "wrong key": Person("a", "k", "sk-qraft-guess"), "revoked key": revoked}[who]

    answers = {
        (method, path): call(stage, method, path, person, owned).status_code
        for method, path, found in operations
        if found["security"]
    }

    assert len(answers) >= 19
    assert answers == dict.fromkeys(answers, 401)


def test_each_scope_opens_its_own_routes_only(stage, operations, owned):
    reader, writer = stage.person(scopes=[READ]), stage.person(scopes=[WRITE])
    writes = {"createJob", "deleteJob", "cancelJob", "createImage", "createImageEdit", "createImageVariation"}
    admins = {"createKey", "listKeys", "revokeKey", "listProviders", "listCapabilities", "declareCapability", "probe"}

    for method, path, found in operations:
        name = found["operationId"]
        if not found["security"]:
            continue
        as_reader = call(stage, method, path, reader, owned).status_code
        as_writer = call(stage, method, path, writer, owned).status_code
        assert (as_reader == 403) == (name in writes | admins), (name, as_reader)
        assert (as_writer == 403) == (name not in writes), (name, as_writer)


def test_key_is_shown_once_works_and_stops_working_when_revoked(stage):
    boss = stage.person(scopes=[ADMIN])
    with httpx.Client(base_url=stage.url, headers=boss.headers) as client:
        made = client.post("/api/keys", json={"account_id": "acme", "name": "studio", "scopes": ["images:read"]})
        text, key_id = made.json()["text"], made.json()["key"]["id"]
        headers = {"authorization": f"Bearer {text}"}
        before = httpx.get(f"{stage.url}/api/account", headers=headers)
        listed = client.get("/api/keys?account_id=acme")
        revoked = [client.delete(f"/api/keys/{key_id}").status_code for _ in range(2)]
        after = httpx.get(f"{stage.url}/api/account", headers=headers)

    assert made.status_code == 201
    assert text.startswith("sk-qraft-") and len(text) >= 52
    assert (before.status_code, before.json()["account_id"]) == (200, "acme")
    assert text not in listed.text and key_id in listed.text
    assert revoked == [204, 404]
    assert after.status_code == 401


def test_key_revoked_by_another_process_stops_within_two_seconds(stage):
    person = stage.person()
    first = call(stage, "GET", "/api/account", person, {})
    revoke(stage, person)
    started = time.monotonic()

    while call(stage, "GET", "/api/account", person, {}).status_code == 200:
        assert time.monotonic() - started < CACHE_TTL_S + 0.5
        time.sleep(0.1)

    assert first.status_code == 200


def test_declared_capability_opens_the_gate_at_once(stage):
    boss, ann = stage.person(scopes=[ADMIN]), stage.person()
    body = {"model": "pic-unknown", "prompt": "declared", "images": [{"image_url": _data_url()}]}
    finding = {"provider": "scripted", "model": "pic-unknown", "feature": "edit", "support": "supported"}
    with httpx.Client(base_url=stage.url) as client:
        before = client.post("/api/jobs", json=body, headers=ann.headers)
        declared = client.post("/api/capabilities", json=finding, headers=boss.headers)
        after = client.post("/api/jobs", json=body, headers=ann.headers)
        client.post("/api/capabilities", json=finding | {"support": "unknown"}, headers=boss.headers)

    assert before.json()["error"]["code"] == "capability_unknown"
    assert declared.json()["evidence"] == f"declared by {boss.key_id}"
    assert after.status_code == 202


def test_no_key_and_no_prompt_is_ever_logged(stage, capfd):
    ann = stage.person()
    prompt = "a secret cathedral"
    with httpx.Client(base_url=stage.url, headers=ann.headers) as client:
        client.post("/api/jobs", json={"model": "pic-1", "prompt": prompt})
        client.post("/v1/images/generations", json={"model": "pic-1", "prompt": f"html {prompt}"})
        client.get(f"/api/jobs/{prompt}")

    written = "".join(capfd.readouterr())
    assert prompt not in written
    assert ann.key not in written


def _data_url() -> str:
    return "data:image/png;base64," + base64.b64encode(png()).decode()
