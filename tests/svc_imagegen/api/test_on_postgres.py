"""The promises that a store has to keep, on the real one: joins, one job a key, the life of a job over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx2
import pytest
from openai import OpenAI
from tests.kit.servers import PostgresServer
from tests.svc_imagegen.api.stage import Stage, png, staged

from svc_imagegen.api.terms import GatewayTerms

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def stage(postgres_session: PostgresServer) -> Iterator[Stage]:
    with (
        postgres_session.fresh_database() as dsn,
        staged(GatewayTerms(sync_window_s=8.0, keepalive_s=0.1), postgres_dsn=dsn) as running,
    ):
        yield running


def test_a_hundred_parallel_calls_with_one_key_are_one_job_and_one_charge(stage):
    dan = stage.person(n_credits=40)
    headers = dan.headers | {"idempotency-key": "parallel"}

    def post(i: int) -> httpx.Response:
        path = "/v1/images/generations" if i % 2 else "/api/jobs"
        return client.post(path, json={"model": "pic-1", "prompt": "once"}, headers=headers)

    limits = httpx.Limits(max_connections=100)
    with httpx.Client(base_url=stage.url, timeout=20, limits=limits) as client, ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(post, range(100)))

    assert {it.status_code for it in answers} == {200, 202}
    assert len({it.content for it in answers if it.status_code == 200}) == 1
    assert len(stage.jobs_of(dan)) == 1
    assert stage.provider.n_calls["once"] == 1
    assert [it.state for it in stage.holds_of(dan)] == ["settled"]


def test_clients_own_retries_after_a_timeout_join_the_running_job(stage):
    ann = stage.person()
    client = OpenAI(base_url=f"{stage.url}/v1", api_key=ann.key, max_retries=2, timeout=httpx2.Timeout(0.7))
    threading.Timer(1.6, stage.let_go).start()

    answer = client.images.edit(model="pic-1", prompt="hold through two timeouts", image=[png(), png(20)])

    assert answer.qraft["charged_credits"] == "50"
    assert [it.state for it in stage.holds_of(ann)] == ["settled"]
    assert stage.provider.n_calls["hold through two timeouts"] == 1


def test_first_attempt_that_its_own_retry_overtook_joins_the_retrys_job(stage):
    ann = stage.person()
    body = json.dumps({"model": "pic-1", "prompt": "overtaken"}).encode()
    sent = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield body[:10]
        sent.wait(5)
        yield body[10:]

    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=stage.url, headers=ann.headers) as client:
        first = pool.submit(client.post, "/v1/images/generations", content=slowly())
        time.sleep(0.2)
        retry = client.post("/v1/images/generations", content=body, headers={"x-stainless-retry-count": "1"})
        sent.set()
        answer = first.result(10)

    assert answer.content == retry.content
    assert len(stage.jobs_of(ann)) == 1
    assert sorted(it.state for it in stage.holds_of(ann)) == ["settled", "voided"]


def test_job_is_followed_by_events_and_kept_from_others(stage):
    ann, eve = stage.person(), stage.person()
    with httpx.Client(base_url=stage.url, headers=ann.headers, timeout=10) as client:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": "hold for events"}).json()["id"]
        threading.Timer(0.3, stage.let_go).start()
        with client.stream("GET", f"/api/jobs/{job_id}/events") as answer:
            told = "".join(answer.iter_text())
        job = client.get(f"/api/jobs/{job_id}").json()
        content = client.get(job["assets"][0]["content_url"])
        page = client.get("/api/jobs?limit=1").json()

    assert told.count("event: job.updated") >= 2
    assert job["state"] == "succeeded"
    assert len(content.content) == job["assets"][0]["n_bytes"]
    assert [it["id"] for it in page["data"]] == [job_id]
    for path in (f"/api/jobs/{job_id}", job["assets"][0]["content_url"], f"/api/assets/{job['assets'][0]['id']}"):
        assert httpx.get(f"{stage.url}{path}", headers=eve.headers).status_code == 404


def test_text_of_every_script_is_kept_as_it_was_written(stage):
    ann = stage.person()
    prompt = "灯塔 🗼 \u202e\u0001 ñ \ud7ff"
    with httpx.Client(base_url=stage.url, headers=ann.headers) as client:
        job_id = client.post("/api/jobs", json={"model": "pic-1", "prompt": prompt}).json()["id"]

        assert client.get(f"/api/jobs/{job_id}").json()["request"]["prompt"] == prompt
