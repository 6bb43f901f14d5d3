"""The stock `openai` client against the gateway, unchanged: pictures, edits, streams, errors, and its own retries."""

from __future__ import annotations

import base64
import io
import threading

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from PIL import Image
from tests.svc_imagegen.api.stage import CREDIT, Person, Stage, png


def client_of(stage: Stage, person: Person, **options) -> OpenAI:
    return OpenAI(base_url=f"{stage.url}/v1", api_key=person.key, **{"max_retries": 0, "timeout": 10.0} | options)


def size_of(b64_json: str | None) -> tuple[int, int]:
    assert b64_json is not None
    with Image.open(io.BytesIO(base64.b64decode(b64_json))) as picture:
        picture.load()
        return picture.size


def test_generate_gives_pictures_that_open_and_charges_once(stage, ann):
    answer = client_of(stage, ann).images.generate(model="pic-1", prompt="a lighthouse", n=2, size="1024x1024")

    assert [size_of(it.b64_json) for it in answer.data] == [(1024, 1024), (1025, 1024)]
    assert answer.created > 1_700_000_000
    assert (answer.size, answer.output_format) == ("1024x1024", "png")
    assert answer.usage is not None
    assert answer.qraft["charged_credits"] == "80"
    assert answer.qraft["is_simulated"] is False
    assert [it.state for it in stage.holds_of(ann)] == ["settled"]
    assert answer._request_id.startswith("req_")


async def test_async_client_generates_as_the_sync_one_does(stage, ann):
    client = AsyncOpenAI(base_url=f"{stage.url}/v1", api_key=ann.key, max_retries=0)

    answer = await client.images.generate(model="pic-1", prompt="a lighthouse")

    assert size_of(answer.data[0].b64_json) == (16, 16)


def test_simulated_pictures_are_marked_in_body_and_header(stage, ann):
    raw = client_of(stage, ann).images.with_raw_response.generate(prompt="a dog", size="64x64")

    assert raw.headers["x-qraft-simulated"] == "true"
    assert raw.parse().qraft["is_simulated"] is True


@pytest.mark.parametrize("shape", ["file", "list of one", "list of two", "bytes without a name"])
def test_edit_takes_every_shape_of_files_that_the_client_sends(stage, ann, shape):
    first, second = png(20, 20, color="red"), png(24, 24, color="blue")
    image = {
        "file": io.BytesIO(first),
        "list of one": [first],
        "list of two": [("a.png", first), ("../../etc/passwd", second)],
        "bytes without a name": first,
    }[shape]

    answer = client_of(stage, ann).images.edit(model="pic-1", prompt=f"edit {shape}", image=image)

    request, references = next(it for it in stage.provider.requests if it[0].prompt == f"edit {shape}")
    sizes = [Image.open(io.BytesIO(it)).size for it in references]
    assert sizes == ([(20, 20), (24, 24)] if shape == "list of two" else [(20, 20)])
    assert [it.role for it in request.references] == ["image"] * len(sizes)
    assert answer.qraft["charged_credits"] == str(40 + 5 * len(sizes))


def test_edit_with_a_mask_of_the_same_size_sends_both(stage, ann):
    mask = png(20, 20, mode="RGBA", color="#00000000")

    client_of(stage, ann).images.edit(model="pic-1", prompt="masked", image=png(20, 20), mask=mask)

    request, _ = next(it for it in stage.provider.requests if it[0].prompt == "masked")
    assert [it.role for it in request.references] == ["image", "mask"]


def test_mask_of_another_size_is_refused_and_nothing_is_held(stage, ann):
    with pytest.raises(openai.BadRequestError) as caught:
        client_of(stage, ann).images.edit(model="pic-1", prompt="x", image=png(20, 20), mask=png(8, 8))

    assert (caught.value.param, caught.value.code) == ("mask", "invalid_image")
    assert stage.holds_of(ann) == []


def test_variation_is_made_where_the_model_supports_it(stage, ann):
    with pytest.warns(DeprecationWarning):
        answer = client_of(stage, ann).images.create_variation(image=png(), model="pic-1", n=1)

    assert size_of(answer.data[0].b64_json) == (16, 16)


def test_variation_of_a_model_without_them_is_not_found(stage, ann):
    with pytest.warns(DeprecationWarning), pytest.raises(openai.NotFoundError) as caught:
        client_of(stage, ann).images.create_variation(image=png(), model="pic-plain")

    assert caught.value.code == "capability_unsupported"


def test_url_answers_are_fetched_with_the_key_from_our_own_route(stage, ann):
    answer = client_of(stage, ann).images.generate(model="pic-1", prompt="by url", response_format="url")

    assert answer.data[0].b64_json is None
    assert answer.data[0].url.startswith(f"{stage.url}/api/assets/")
    assert httpx2.get(answer.data[0].url).status_code == 401
    fetched = httpx2.get(answer.data[0].url, headers=ann.headers)
    assert size_of(base64.b64encode(fetched.content).decode()) == (16, 16)


def test_url_answers_are_refused_for_models_that_only_answer_base64(stage, ann):
    with pytest.raises(openai.BadRequestError) as caught:
        client_of(stage, ann).images.generate(model="gpt-image-2", prompt="x", response_format="url")

    assert caught.value.param == "response_format"


@pytest.mark.parametrize("n", [1, 3])
def test_stream_ends_in_one_completed_event_a_picture(stage, ann, n):
    events = list(client_of(stage, ann).images.generate(model="pic-1", prompt="streamed", n=n, stream=True))

    assert [it.type for it in events] == ["image_generation.completed"] * n
    assert [size_of(it.b64_json) for it in events] == [(16 + i, 16) for i in range(n)]
    assert events[0].usage.total_tokens == 0


def test_stream_of_an_edit_names_its_own_event(stage, ann):
    events = list(client_of(stage, ann).images.edit(model="pic-1", prompt="streamed edit", image=png(), stream=True))

    assert [it.type for it in events] == ["image_edit.completed"]


def test_keepalives_carry_a_stream_over_the_read_timeout(stage, ann):
    client = client_of(stage, ann, timeout=httpx2.Timeout(0.5))
    threading.Timer(1.5, stage.let_go).start()

    events = list(client.images.generate(model="pic-1", prompt="hold longer than the read timeout", stream=True))

    assert [it.type for it in events] == ["image_generation.completed"]


def test_failure_within_a_stream_is_raised_with_cause_and_money(stage, ann):
    with pytest.raises(openai.APIError) as caught:
        list(client_of(stage, ann).images.generate(model="pic-1", prompt="policy", stream=True))

    assert caught.value.code == "moderation_blocked"
    assert caught.value.message == "The provider refused the content by its policy. Not charged."


@pytest.mark.parametrize(
    ("prompt", "error", "code", "money"),
    [
        ("policy", openai.BadRequestError, "moderation_blocked", "Not charged."),
        ("refused", openai.BadRequestError, "bad_request", "Not charged."),
        ("html", openai.InternalServerError, "unsupported_type", "Not charged."),
        ("uncertain", openai.InternalServerError, "outcome_uncertain", "40 credits held, checking."),
    ],
)
def test_failed_job_is_raised_once_with_cause_and_money(stage, ann, prompt, error, code, money):
    with pytest.raises(error) as caught:
        client_of(stage, ann, max_retries=2).images.generate(model="pic-1", prompt=f"{prompt} {ann.account_id}")

    assert caught.value.code == code
    assert caught.value.body["message"].endswith(money)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.headers["x-qraft-job-id"]
    assert stage.provider.n_calls[f"{prompt} {ann.account_id}"] == 1


@pytest.mark.parametrize(
    ("fields", "error", "code", "param"),
    [
        ({"model": "no-such"}, openai.NotFoundError, "model_not_found", "model"),
        ({"model": "pic-unpriced"}, openai.BadRequestError, "price_unknown", None),
        ({"n": 11}, openai.BadRequestError, "integer_above_max_value", "n"),
        ({"size": "9999x9999"}, openai.BadRequestError, "invalid_value", "size"),
        ({"quality": "best"}, openai.BadRequestError, "invalid_value", "quality"),
        ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "unknown_parameter", "colour"),
        ({"background": "transparent", "output_format": "jpeg"}, openai.BadRequestError, "invalid_value", "background"),
    ],
)
def test_refused_call_names_the_field_and_says_that_it_is_free(stage, ann, fields, error, code, param):
    with pytest.raises(error) as caught:
        client_of(stage, ann, max_retries=2).images.generate(**{"prompt": "x", "model": "pic-1"} | fields)

    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.body["message"].endswith("Not charged.")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert stage.jobs_of(ann) == []
    assert stage.holds_of(ann) == []


def test_declared_provider_fields_are_passed_on(stage, ann):
    client_of(stage, ann).images.generate(model="pic-1", prompt="seeded", extra_body={"seed": 7})

    request, _ = next(it for it in stage.provider.requests if it[0].prompt == "seeded")
    assert request.extras == {"seed": 7}


def test_too_few_credits_are_a_final_quota_error(stage):
    poor = stage.person(n_credits=39)

    with pytest.raises(openai.RateLimitError) as caught:
        client_of(stage, poor, max_retries=2).images.generate(model="pic-1", prompt="dear")

    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "credit_balance_exhausted")
    assert "40 are needed" in caught.value.body["message"]
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_unknown_capability_never_sends_a_paid_reference_job(stage, ann):
    client = client_of(stage, ann)

    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model="pic-unknown", prompt="unproven", image=png())

    assert caught.value.code == "capability_unknown"
    assert "qraft images probe" in caught.value.body["message"]
    assert stage.holds_of(ann) == []
    assert client.images.generate(model="pic-unknown", prompt="a plain one").data


def test_clients_own_retries_after_a_timeout_join_the_running_job(stage, ann):
    client = client_of(stage, ann, max_retries=2, timeout=httpx2.Timeout(0.7))
    threading.Timer(1.6, stage.let_go).start()

    answer = client.images.generate(model="pic-1", prompt="hold through two timeouts")

    assert answer.qraft["charged_credits"] == "40"
    assert len(stage.jobs_of(ann)) == 1
    assert [it.state for it in stage.holds_of(ann)] == ["settled"]
    assert stage.provider.n_calls["hold through two timeouts"] == 1


def test_two_calls_of_one_content_are_two_jobs_when_neither_is_a_retry(stage, ann):
    client = client_of(stage, ann)

    for _ in range(2):
        client.images.generate(model="pic-1", prompt="the same twice")

    assert len(stage.jobs_of(ann)) == 2


def test_idempotency_key_replays_the_finished_answer_byte_for_byte(stage, ann):
    images = client_of(stage, ann).images.with_raw_response
    headers = {"Idempotency-Key": "order-1"}

    first = images.generate(model="pic-1", prompt="kept", extra_headers=headers)
    again = images.generate(model="pic-1", prompt="kept", extra_headers=headers)

    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert stage.provider.n_calls["kept"] == 1
    assert stage.billing._balances[ann.account_id].spent_microcredits == 40 * CREDIT


def test_idempotency_key_with_other_content_is_an_idempotency_error(stage, ann):
    client = client_of(stage, ann, max_retries=2)
    headers = {"Idempotency-Key": "order-1"}
    client.images.generate(model="pic-1", prompt="one", extra_headers=headers)

    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model="pic-1", prompt="another", extra_headers=headers)

    assert (caught.value.type, caught.value.code) == ("idempotency_error", "idempotency_key_reused")
    assert len(stage.jobs_of(ann)) == 1


def test_the_same_idempotency_key_of_another_account_is_another_call(stage, ann):
    bob = stage.person()
    for person in (ann, bob):
        client_of(stage, person).images.generate(
            model="pic-1", prompt="whose", extra_headers={"Idempotency-Key": "order-1"}
        )

    assert (len(stage.jobs_of(ann)), len(stage.jobs_of(bob))) == (1, 1)


def test_models_are_listed_with_the_first_provider_of_a_shared_name(stage, ann):
    client = client_of(stage, ann)

    models = {it.id: it for it in client.models.list()}

    assert models["simulated-1"].owned_by == "simulated"
    assert models["scripted/simulated-1"].owned_by == "scripted"
    assert client.models.retrieve("pic-1").owned_by == "scripted"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such")


def test_wrong_key_is_an_authentication_error(stage):
    with pytest.raises(openai.AuthenticationError) as caught:
        OpenAI(base_url=f"{stage.url}/v1", api_key="sk-qraft-wrong").models.list()

    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(("prompt", "names"), [("by wire", ["image_generation.completed"] * 2), ("policy by wire", [])])
def test_stream_has_only_event_names_that_clients_know(stage, ann, prompt, names):
    body = {"model": "pic-1", "prompt": prompt, "n": 2, "stream": True}

    answer = httpx2.post(f"{stage.url}/v1/images/generations", json=body, headers=ann.headers)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [it.removeprefix("event: ") for it in answer.text.split("\n") if it.startswith("event:")] == names
    assert answer.text.count('data: {"error":') == (0 if names else 1)
