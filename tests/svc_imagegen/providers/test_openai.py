"""The wire format of OpenAI: every field of every request, and every shape of an answer."""

from __future__ import annotations

import base64

import pytest
from tests.svc_imagegen.providers.fault_provider import PNG, picture_body, png
from tests.svc_imagegen.providers.fault_server import FaultServer, Reply, Request
from tests.svc_imagegen.providers.kit import KEY, edit, generation, make_provider, reference

from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.outcome import ProviderAnswer, Rejected, Uncertain
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import ReferenceBytes

PNG_2 = png(16, 16)


async def exchange(
    request: ImageRequest,
    *references: ReferenceBytes,
    answer: object = None,
    answer_headers: dict[str, object] | None = None,
    **config: object,
) -> tuple[ProviderAnswer, Request]:
    """Return what a provider makes of a server's answer, and what it asked."""

    async def handler(_request: Request, reply: Reply) -> None:
        await reply.json(answer or picture_body(PNG), **(answer_headers or {}))

    async with FaultServer(handler) as server:
        provider = make_provider(f"{server.origin}/v1", **config)  # type: ignore[arg-type]
        try:
            result = await provider.generate(request, references, attempt_id="job-1/1")
        finally:
            await provider.close()
        return result, server.requests[0]


async def test_a_generation_of_defaults_sends_no_default() -> None:
    _, sent = await exchange(generation())

    assert (sent.method, sent.target) == ("POST", "/v1/images/generations")
    assert sent.json() == {"model": "m", "prompt": "a red fox", "n": 1}
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["idempotency-key"] == sent.headers["x-client-request-id"] == "job-1/1"
    assert sent.headers["accept-encoding"] == "identity"


async def test_a_generation_sends_every_wish_under_its_name() -> None:
    request = generation(
        n=2,
        size="1536x1024",
        quality="high",
        background="transparent",
        output_format="webp",
        output_compression=80,
        moderation="low",
        end_user="u-1",
        text_material="Caption: autumn",
    )

    _, sent = await exchange(request)

    assert sent.json() == {
        "model": "m",
        "prompt": "a red fox\n\nCaption: autumn",
        "n": 2,
        "size": "1536x1024",
        "quality": "high",
        "background": "transparent",
        "output_format": "webp",
        "output_compression": 80,
        "moderation": "low",
        "user": "u-1",
    }


async def test_an_edit_of_one_picture_is_a_form_with_image() -> None:
    _, sent = await exchange(edit(reference(PNG), n=2, input_fidelity="high"), reference(PNG))

    assert sent.target == "/v1/images/edits"
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert sent.fields() == {"model": "m", "prompt": "make it blue", "n": "2", "input_fidelity": "high"}
    assert sent.files() == [("image", PNG)]
    assert [head["content-type"] for _, head, _ in sent.form()][-1] == "image/png"


async def test_an_edit_of_several_pictures_repeats_image_with_brackets_in_their_order() -> None:
    references = (reference(PNG_2), reference(PNG), reference(png(4, 4), role="mask"))

    _, sent = await exchange(edit(*references), *references)

    assert sent.files() == [("image[]", PNG_2), ("image[]", PNG), ("mask", png(4, 4))]


@pytest.mark.parametrize("field", ["image", "image[]"])
async def test_the_name_of_the_pictures_can_be_configured(field: str) -> None:
    _, sent = await exchange(edit(reference(PNG)), reference(PNG), image_field=field)

    assert sent.files() == [(field, PNG)]


async def test_an_edit_can_be_json_with_data_urls() -> None:
    references = (reference(PNG), reference(PNG_2, role="mask"))

    _, sent = await exchange(edit(*references), *references, edit_body="json")

    assert sent.json() == {
        "model": "m",
        "prompt": "make it blue",
        "n": 1,
        "images": [{"image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()}],
        "mask": {"image_url": "data:image/png;base64," + base64.b64encode(PNG_2).decode()},
    }


async def test_a_variation_has_one_picture_and_no_prompt() -> None:
    request = edit(reference(PNG), operation="variation", prompt="", n=3, size="1024x1024")

    _, sent = await exchange(request, reference(PNG))

    assert sent.target == "/v1/images/variations"
    assert sent.fields() == {"model": "m", "n": "3", "size": "1024x1024"}
    assert sent.files() == [("image", PNG)]


async def test_an_edit_without_a_picture_is_refused_before_it_is_sent() -> None:
    with pytest.raises(Rejected) as refused:
        await exchange(edit(), answer={})

    assert (refused.value.cause, refused.value.param) == ("unsupported", "image")


async def test_names_and_values_are_mapped_by_configuration() -> None:
    _, sent = await exchange(
        generation(size="1024x1024", quality="high", end_user="u-1"),
        field_map={"n": "num_images", "user": ""},
        quality_map={"high": "hd"},
        size_map={"1024x1024": "1K"},
        response_format="b64_json",
        headers={"OpenAI-Organization": "org-1"},
        models=[{"name": "m", "upstream": "vendor/m-2"}],
    )

    assert sent.json() == {
        "model": "vendor/m-2",
        "prompt": "a red fox",
        "num_images": 1,
        "size": "1K",
        "quality": "hd",
        "response_format": "b64_json",
    }
    assert sent.headers["openai-organization"] == "org-1"


async def test_a_value_mapped_to_nothing_is_not_sent() -> None:
    _, sent = await exchange(generation(quality="low"), quality_map={"low": ""})

    assert "quality" not in sent.json()


async def test_the_base_url_is_taken_as_given() -> None:
    async def handler(_request: Request, reply: Reply) -> None:
        await reply.json(picture_body(PNG))

    async with FaultServer(handler) as server:
        for base in ("/api/v3", "/api/v3/", ""):
            provider = make_provider(f"{server.origin}{base}")
            await provider.generate(generation(), (), attempt_id="a")
            await provider.close()

    assert [it.target for it in server.requests] == [
        "/api/v3/images/generations",
        "/api/v3/images/generations",
        "/images/generations",
    ]


async def test_a_server_without_a_key_gets_no_authorization() -> None:
    _, sent = await exchange(generation(), api_key_env="")

    assert "authorization" not in sent.headers


async def test_the_answer_keeps_request_id_usage_and_revised_prompt() -> None:
    answer = picture_body(PNG) | {
        "usage": {"input_tokens": 5, "output_tokens": 10, "input_tokens_details": {"image_tokens": 4}, "note": "x"}
    }
    answer["data"][0]["revised_prompt"] = "a red fox in snow"  # type: ignore[index]

    result, _ = await exchange(generation(), answer=answer, answer_headers={"X-Request-Id": "req-9"})

    assert result.provider_request_id == "req-9"
    assert result.usage == {"input_tokens": 5, "output_tokens": 10, "input_tokens_details.image_tokens": 4}
    assert result.pictures[0].revised_prompt == "a red fox in snow"
    assert result.cost_microusd is None


@pytest.mark.parametrize(
    ("config", "told", "headers", "cost"),
    [
        ({"cost_field": "usage.cost"}, 0.042, {}, 42_000),
        ({"cost_field": "usage.cost", "cost_unit": "cent"}, "4.2", {}, 42_000),
        ({"cost_field": "usage.cost", "cost_unit": "microusd"}, 41_999.5, {}, 42_000),
        ({"cost_header": "X-Litellm-Response-Cost"}, None, {"x-litellm-response-cost": "0.0000001"}, 1),
        ({"cost_field": "usage.cost"}, -1, {}, None),
        ({"cost_field": "usage.cost"}, "NaN", {}, None),
        ({"cost_field": "usage.cost"}, 1e30, {}, None),
        ({"cost_field": "usage.cost"}, {"usd": 1}, {}, None),
        ({"cost_field": "usage.nothing"}, 1, {}, None),
        ({"cost_field": "usage.cost"}, True, {}, None),
    ],
)
async def test_the_cost_is_read_where_the_configuration_says_it_is_told(
    config: dict[str, object], told: object, headers: dict[str, object], cost: int | None
) -> None:
    answer = picture_body(PNG) | {"usage": {"cost": told}}

    result, _ = await exchange(generation(), answer=answer, answer_headers=headers, **config)

    assert result.cost_microusd == cost


@pytest.mark.parametrize(
    ("found", "wish"),
    [("n", {"n": 11}), ("seed", {"extras": {"seed": 1}})],
)
async def test_what_cannot_be_sent_is_refused_by_name_before_it_is_sent(found: str, wish: dict[str, object]) -> None:
    with pytest.raises(Rejected) as refused:
        await exchange(generation(**wish))

    assert (refused.value.cause, refused.value.param) == ("unsupported", found)


async def test_an_extra_that_the_configuration_declares_is_passed_on() -> None:
    models = [{"name": "m", "supports": ["extra:seed"]}]

    _, sent = await exchange(generation(extras={"seed": 7}), models=models)

    assert sent.json()["seed"] == 7


async def test_a_model_that_is_not_configured_is_refused() -> None:
    with pytest.raises(Rejected) as refused:
        await exchange(generation(model="other"))

    assert refused.value.cause == "model_unknown"


def test_only_generating_is_certain_of_an_unknown_server() -> None:
    provider = make_provider("http://127.0.0.1:1/v1")

    found = {it: provider.declared("m", it) for it in ("generation", "edit", "edit_multi", "mask", "variation")}

    assert found.pop("generation") is Support.SUPPORTED
    assert set(found.values()) == {Support.UNKNOWN}
    assert provider.declared("m", "extra:seed") is Support.UNSUPPORTED
    assert provider.declared("other", "generation") is Support.UNKNOWN


def test_openais_own_image_models_are_known_and_a_person_is_believed_first() -> None:
    models = [{"name": "gpt-image-2", "unsupports": ["mask"], "supports": ["size:3840x2160"]}]
    provider = make_provider("https://api.openai.com/v1", models=models)

    assert provider.declared("gpt-image-2", "edit_multi") is Support.SUPPORTED
    assert provider.declared("gpt-image-2", "variation") is Support.UNSUPPORTED
    assert provider.declared("gpt-image-2", "mask") is Support.UNSUPPORTED
    assert provider.declared("gpt-image-2", "size:3840x2160") is Support.SUPPORTED
    assert provider.declared("gpt-image-2", "size:48x48") is Support.UNKNOWN


def test_a_provider_does_not_show_its_key() -> None:
    provider = make_provider("https://api.openai.com/v1")

    assert KEY not in repr(provider)
    assert KEY not in repr(vars(provider))


# Asking about a task of an asynchronous relay.

_RELAY = {"task_path": "tasks/{id}"}


async def _look_up(
    answer: object, *, status: int = 200, task: str = "task/t-1", **config: object
) -> tuple[str, FaultServer]:
    async def handler(_request: Request, reply: Reply) -> None:
        await reply.json(answer, status)

    async with FaultServer(handler) as server:
        provider = make_provider(f"{server.origin}/v1", **(_RELAY | config))  # type: ignore[arg-type]
        found = await provider.look_up(task)
        await provider.close()
        if found.status == "succeeded":
            assert found.answer is not None
            assert [it.data for it in found.answer.pictures] == [PNG]
        return found.status, server


_B64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"task_id": "t-1", "status": "processing"}, "running"),
        ({"code": 200, "data": {"id": "t-1", "status": "IN_PROGRESS"}}, "running"),
        ({"status": "succeeded", "data": [{"b64_json": _B64}]}, "succeeded"),
        (
            {"code": 200, "data": {"id": "t-1", "status": "completed", "result": {"images": [{"b64_json": _B64}]}}},
            "succeeded",
        ),
        ({"data": {"task_id": "t-1", "status": "SUCCESS", "images": [{"b64_json": _B64}]}}, "succeeded"),
        ({"task_id": "t-1", "status": "failed", "error": "no"}, "failed"),
        ({"data": {"task_id": "t-1", "status": "CANCELLED"}}, "failed"),
        ({"status": "succeeded", "data": []}, "unknown"),
        ({"status": "dreaming"}, "unknown"),
        ({}, "unknown"),
        ([], "unknown"),
    ],
)
async def test_a_task_is_asked_about_and_only_plain_words_are_believed(answer: object, status: str) -> None:
    found, server = await _look_up(answer)

    assert found == status
    assert [(it.method, it.target) for it in server.requests] == [("GET", "/v1/tasks/t-1")]


@pytest.mark.parametrize("status", [401, 404, 429, 500])
async def test_a_provider_that_cannot_say_leaves_it_unknown(status: int) -> None:
    found, _ = await _look_up({"status": "failed"}, status=status)

    assert found == "unknown"


@pytest.mark.parametrize(("task", "config"), [("req-1", {}), ("task/t-1", {"task_path": ""})])
async def test_an_id_that_is_no_task_is_not_asked_about(task: str, config: dict[str, object]) -> None:
    found, server = await _look_up({}, task=task, **config)

    assert found == "unknown"
    assert server.n_connections == 0


async def test_a_tasks_id_cannot_leave_its_path() -> None:
    _, server = await _look_up({"status": "failed"}, task="task/../../admin?x=1")

    assert server.requests[0].target.lower() == "/v1/tasks/..%2f..%2fadmin%3fx=1"


async def test_a_relay_without_a_task_path_says_so() -> None:
    with pytest.raises(Uncertain) as uncertain:
        await exchange(generation(), answer={"task_id": "t-1", "status": "submitted"})

    assert "task_path" in uncertain.value.detail
