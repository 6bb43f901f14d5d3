"""The own job API: accepted at once, seen at any time, never a percentage, and nobody else's."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.svc_imagegen.api.stage import CREDIT, Person, Stage, png

FINAL = {"succeeded", "failed", "canceled", "uncertain", "refund_failed"}


def http(stage: Stage, person: Person | None) -> httpx.Client:
    return httpx.Client(base_url=stage.url, headers=person.headers if person else {}, timeout=10)


def until_final(client: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        job = client.get(f"/api/jobs/{job_id}").json()
        if job["state"] in FINAL and job["money"]["state"] in ("settled", "voided", "disputed"):
            return job
        time.sleep(0.02)
    raise AssertionError(job)


def test_new_job_is_accepted_with_its_place_and_ends_with_pictures(stage, ann):
    with http(stage, ann) as client:
        answer = client.post("/api/jobs", json={"model": "pic-1", "prompt": "a fox", "n": 2})
        job = until_final(client, answer.json()["id"])

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["message"] == "80 credits held."
    assert (job["state"], job["message"]) == ("succeeded", "Charged 80 credits.")
    assert job["money"] == {"state": "settled", "held_credits": "0", "charged_credits": "80", "price_version": 1}
    assert [it["width"] for it in job["assets"]] == [16, 17]
    assert [(it["attempt"], it["outcome"]) for it in job["attempts"]] == [(1, "succeeded")]


def test_running_job_tells_elapsed_time_and_never_a_percentage(stage, ann):
    with http(stage, ann) as client:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": "hold a while"}).json()["id"]
        answer = client.get(f"/api/jobs/{job_id}")
        stage.let_go()
        until_final(client, job_id)

    assert answer.json()["state"] in ("pending", "running")
    assert answer.json()["elapsed_s"] >= 0
    assert answer.headers["cache-control"] == "no-store"
    assert "retry-after" in answer.headers
    assert not {key for key in _keys(answer.json()) if "progress" in key or "percent" in key}


def test_unchanged_job_is_not_sent_again(stage, ann):
    with http(stage, ann) as client:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": "etag"}).json()["id"]
        until_final(client, job_id)
        etag = client.get(f"/api/jobs/{job_id}").headers["etag"]
        same = client.get(f"/api/jobs/{job_id}", headers={"if-none-match": etag})
        other = client.get(f"/api/jobs/{job_id}", headers={"if-none-match": '"0-0"'})

    assert (same.status_code, same.content, other.status_code) == (304, b"", 200)


def test_form_with_references_makes_an_edit(stage, ann):
    files = [
        ("image[]", ("a", png(20, 20))),
        ("image[]", ("b", png(20, 20))),
        ("mask", ("m", png(20, 20, mode="RGBA"))),
    ]
    with http(stage, ann) as client:
        answer = client.post("/api/jobs", data={"model": "pic-1", "prompt": "join", "n": "1"}, files=files)
        job = until_final(client, answer.json()["id"])

    assert (job["request"]["operation"], job["request"]["n_references"], job["request"]["has_mask"]) == (
        "edit",
        2,
        True,
    )


def test_price_that_was_shown_is_held_to(stage, ann):
    with http(stage, ann) as client:
        shown = client.post("/api/estimate", json={"model": "pic-1", "n": 2}).json()
        echo = {"expected_credits": shown["expected_credits"], "price_version": shown["price_version"]}
        agreed = client.post("/api/jobs", json={"model": "pic-1", "prompt": "x", "n": 2} | echo)
        changed = client.post("/api/jobs", json={"model": "pic-1", "prompt": "x", "n": 3} | echo)

    assert (shown["expected_credits"], shown["per_image_credits"]) == ("80", "40")
    assert agreed.status_code == 202
    assert changed.status_code == 409
    assert changed.json()["error"]["code"] == "price_changed"
    assert "now 120 (version 1)" in changed.json()["error"]["message"]
    assert changed.json()["error"]["message"].endswith("Not charged.")


def test_list_is_paged_newest_first(stage, ann):
    with http(stage, ann) as client:
        made = [client.post("/api/jobs", json={"model": "pic-1", "prompt": f"p{i}"}).json()["id"] for i in range(5)]
        first = client.get("/api/jobs?limit=3").json()
        second = client.get(f"/api/jobs?limit=3&before={first['next_before']}").json()

    assert [it["id"] for it in first["data"] + second["data"]] == made[::-1]
    assert second["next_before"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=", "before=%00", "before=a/b"])
def test_query_beyond_its_bounds_is_refused(stage, ann, query):
    with http(stage, ann) as client:
        assert client.get(f"/api/jobs?{query}").status_code == 400


def test_job_that_has_begun_cannot_be_canceled(stage, ann):
    with http(stage, ann) as client:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": "hold on"}).json()["id"]
        while client.get(f"/api/jobs/{job_id}").json()["state"] != "running":
            time.sleep(0.01)
        answer = client.delete(f"/api/jobs/{job_id}")
        stage.let_go()

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_has_begun")


def test_events_tell_every_state_once_and_end_with_the_job(stage, ann):
    with http(stage, ann) as client:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": "hold for events"}).json()["id"]
        threading.Timer(0.4, stage.let_go).start()
        events = _events(client, job_id)
        last = events[-1]
        again = client.get(f"/api/jobs/{job_id}/events", headers={"last-event-id": last["id"]})

    versions = [int(it["id"]) for it in events]
    assert versions == sorted(set(versions))
    assert {it["event"] for it in events} == {"job.updated"}
    assert json.loads(last["data"])["state"] == "succeeded"
    assert again.status_code == 204


def test_event_streams_are_bounded(stage, ann):
    with http(stage, ann) as client, ThreadPoolExecutor(4) as pool:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": "hold the streams"}).json()["id"]
        streams = [pool.submit(_events, client, job_id) for _ in range(4)]
        while stage.gateway._jobs._n_event_clients < 4:
            time.sleep(0.01)
        try:
            fifth = client.get(f"/api/jobs/{job_id}/events")
        finally:
            stage.let_go()
        ended = [it.result(10) for it in streams]

    assert (fifth.status_code, fifth.headers["retry-after"]) == (503, "5")
    assert all(ended)


def test_account_shows_held_and_spent_credits(stage):
    eve = stage.person(n_credits=100)
    with http(stage, eve) as client:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": "hold my credits"}).json()["id"]
        during = client.get("/api/account").json()
        while client.get(f"/api/jobs/{job_id}").json()["state"] != "running":
            time.sleep(0.01)
        stage.let_go()
        until_final(client, job_id)
        after = client.get("/api/account").json()

    assert (during["available_credits"], during["held_credits"]) == ("60", "40")
    assert (after["available_credits"], after["held_credits"], after["spent_credits"]) == ("60", "0", "40")


def test_account_without_any_grant_has_nothing(stage):
    with http(stage, stage.person(n_credits=0)) as client:
        assert client.get("/api/account").json()["available_credits"] == "0"


def test_a_hundred_parallel_calls_with_one_key_are_one_job_and_one_charge(stage):
    # Credits for a single job: a repetition that held credits of its own would be refused.
    dan = stage.person(n_credits=40)
    headers = dan.headers | {"idempotency-key": "parallel"}

    def post(i: int) -> httpx.Response:
        path = "/v1/images/generations" if i % 2 else "/api/jobs"
        return client.post(path, json={"model": "pic-1", "prompt": f"once {dan.account_id}"}, headers=headers)

    limits = httpx.Limits(max_connections=100)
    with httpx.Client(base_url=stage.url, timeout=20, limits=limits) as client, ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(post, range(100)))

    assert {it.status_code for it in answers} == {200, 202}
    assert len({it.content for it in answers if it.status_code == 200}) == 1
    assert len({it.headers["x-qraft-job-id"] for it in answers}) == 1
    assert stage.provider.n_calls[f"once {dan.account_id}"] == 1
    assert [it.state for it in stage.holds_of(dan)] == ["settled"]
    assert stage.billing._balances[dan.account_id].spent_microcredits == 40 * CREDIT


def _events(client: httpx.Client, job_id: str) -> list[dict[str, str]]:
    with client.stream("GET", f"/api/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).split("\n\n")
    events = [dict(line.split(": ", 1) for line in it.split("\n") if not line.startswith(":")) for it in blocks if it]
    return [it for it in events if "data" in it]


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for it in value.values() for key in _keys(it)}
    return {key for it in value for key in _keys(it)} if isinstance(value, list) else set()
