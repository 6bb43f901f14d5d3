"""Calls that outlive their window, their client or the gateway's room: the job goes on, the caller is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI
from tests.svc_imagegen.api.stage import Stage, staged

from svc_imagegen.api.terms import GatewayTerms


@pytest.fixture(scope="module")
def short() -> Iterator[Stage]:
    """A gateway that waits half a second, for two calls at once."""
    terms = GatewayTerms(sync_window_s=0.5, stream_window_s=0.5, keepalive_s=0.1, n_waiting_max=2)
    with staged(terms) as stage:
        yield stage


@pytest.fixture(scope="module")
def idle() -> Iterator[Stage]:
    """A gateway whose jobs nobody takes up."""
    with staged(GatewayTerms(sync_window_s=0.3), is_worked=False) as stage:
        yield stage


def until_job(stage: Stage, job_id: str, state: str) -> None:
    deadline = time.monotonic() + 10
    while (found := stage.call(stage.jobs.get(job_id))) is None or found.state != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_call_over_its_window_ends_in_504_with_the_job_that_goes_on(short):
    ann = short.person()
    client = OpenAI(base_url=f"{short.url}/v1", api_key=ann.key, max_retries=2)

    with pytest.raises(openai.InternalServerError) as caught:
        client.images.generate(model="pic-1", prompt="hold over the window")

    headers = caught.value.response.headers
    assert caught.value.response.status_code == 504
    assert caught.value.code == "job_still_running"
    assert "40 credits held." in caught.value.body["message"]
    assert headers["x-should-retry"] == "false"
    assert headers["x-qraft-job-id"] in caught.value.body["message"]
    assert caught.value.response.json()["qraft_job_id"] == headers["x-qraft-job-id"]
    short.let_go()
    until_job(short, headers["x-qraft-job-id"], "succeeded")
    assert len(short.jobs_of(ann)) == 1


def test_stream_over_its_window_ends_in_an_error_with_the_job(short):
    ann = short.person()
    client = OpenAI(base_url=f"{short.url}/v1", api_key=ann.key)

    with pytest.raises(openai.APIError) as caught:
        list(client.images.generate(model="pic-1", prompt="hold over the stream", stream=True))

    assert caught.value.code == "job_still_running"
    short.let_go()


def test_client_that_leaves_does_not_cancel_its_job(short):
    ann = short.person()
    body = b'{"model":"pic-1","prompt":"hold for nobody"}'
    host, port = short.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = (
            b"POST /v1/images/generations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\ncontent-length: %d\r\n\r\n"
        )
        connection.sendall(head % (ann.key.encode(), len(body)) + body)
        while not short.jobs_of(ann):
            time.sleep(0.01)
    (job,) = short.jobs_of(ann)
    while short.gateway._images.waiting._n:
        time.sleep(0.01)
    until_job(short, job.job_id, "running")
    short.let_go()

    until_job(short, job.job_id, "succeeded")


def test_waiting_calls_beyond_the_bound_are_put_off_before_anything_is_made(short):
    ann, bob = short.person(), short.person()
    client = OpenAI(base_url=f"{short.url}/v1", api_key=ann.key, max_retries=0)
    threads = [threading.Thread(target=_hold, args=(client,), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    while short.gateway._images.waiting._n < 2:
        time.sleep(0.01)

    answer = httpx.post(f"{short.url}/v1/images/generations", json={"prompt": "x"}, headers=bob.headers)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "x-should-retry" not in answer.headers
    assert answer.json()["error"]["message"].endswith("Not charged.")
    assert short.jobs_of(bob) == []
    for thread in threads:
        thread.join(5)
    short.let_go()


def test_pending_job_knows_its_place_and_is_canceled_without_charge(idle):
    ann = idle.person()
    with httpx.Client(base_url=idle.url, headers=ann.headers) as client:
        first, second = (
            client.post("/api/jobs", json={"model": "pic-1", "prompt": it}).json()["id"] for it in ("first", "second")
        )
        places = [client.get(f"/api/jobs/{it}").json()["place_in_queue"] for it in (first, second)]
        canceled = client.delete(f"/api/jobs/{first}")
        again = client.post(f"/api/jobs/{first}/cancel")
        moved = client.get(f"/api/jobs/{second}").json()["place_in_queue"]

    assert places == [1, 2]
    assert (canceled.status_code, again.status_code) == (200, 200)
    assert canceled.json()["state"] == "canceled"
    assert canceled.json()["message"] == "The job was canceled before it began. Not charged."
    assert moved == 1
    assert [it.state for it in idle.holds_of(ann)] == ["voided", "held"]


def test_canceled_job_answers_its_waiting_call_with_409_and_no_retry(idle):
    ann = idle.person()
    headers = ann.headers | {"idempotency-key": "k"}
    with httpx.Client(base_url=idle.url, headers=headers) as client:
        body = {"model": "pic-1", "prompt": "canceled later"}
        waited = client.post("/v1/images/generations", json=body)
        client.delete(f"/api/jobs/{waited.headers['x-qraft-job-id']}")
        answer = client.post("/v1/images/generations", json=body)

    assert waited.status_code == 504
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_canceled")
    assert answer.headers["x-should-retry"] == "false"


def test_ledger_that_is_away_is_a_retryable_503_and_leaves_no_job(idle):
    ann = idle.person()
    idle.billing.is_away = True
    try:
        answer = httpx.post(f"{idle.url}/api/jobs", json={"model": "pic-1", "prompt": "x"}, headers=ann.headers)
    finally:
        idle.billing.is_away = False

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "billing_away")
    assert "x-should-retry" not in answer.headers
    assert int(answer.headers["retry-after"]) > 0
    assert idle.jobs_of(ann) == []


def _hold(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.images.generate(model="pic-1", prompt="hold a place")
