"""One local server per deviation: what each kind of server is sent, field by field, and how its answers are read."""

from __future__ import annotations

import base64

import pytest
from tests.svc_imagegen.providers.fault_provider import PNG, picture_body, png
from tests.svc_imagegen.providers.fault_server import FaultServer, Reply, Request
from tests.svc_imagegen.providers.kit import KEY, edit, generation, make_provider, reference
from tests.svc_imagegen.providers.test_openai import exchange

from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.outcome import Rejected
from svc_imagegen.domain.request import ImageRequest

PNG_2 = png(16, 16)
_DATA = "data:image/png;base64," + base64.b64encode(PNG).decode()
_DATA_2 = "data:image/png;base64," + base64.b64encode(PNG_2).decode()
_REF, _REF_2 = reference(PNG), reference(PNG_2)
_MASK = reference(PNG_2, role="mask")


async def _refused(request: ImageRequest, kind: str, *references: object, model: str = "m") -> str | None:
    with pytest.raises(Rejected) as refused:
        await exchange(request, *references, kind=kind, models=[{"name": "m", "upstream": model}])  # type: ignore[arg-type]
    assert refused.value.cause == "unsupported"
    return refused.value.param


def _declared(kind: str, *features: str, model: str = "m") -> list[str]:
    provider = make_provider(
        "http://127.0.0.1:1/v1", kind=kind, models=[{"name": "m", "upstream": model}], api_version="1"
    )
    return [provider.declared("m", it).value for it in features]


class TestLocalAI:
    async def test_a_generation_asks_for_base64_and_a_size(self) -> None:
        answer = picture_body(PNG) | {"usage": {"total_tokens": 0}}

        result, sent = await exchange(generation(size="512x512", extras={"step": 15}), kind="localai", answer=answer)

        assert sent.json() == {
            "model": "m", "prompt": "a red fox", "n": 1, "size": "512x512", "response_format": "b64_json", "step": 15,
        }  # fmt: skip
        assert result.usage == {}

    async def test_references_are_raw_base64_on_generations(self) -> None:
        _, sent = await exchange(edit(_REF, _REF_2, size="512x512"), _REF, _REF_2, kind="localai")

        assert sent.target == "/v1/images/generations"
        assert sent.json()["ref_images"] == [it.partition(",")[2] for it in (_DATA, _DATA_2)]

    async def test_a_mask_goes_to_inpainting(self) -> None:
        _, sent = await exchange(edit(_REF, _MASK, size="512x512"), _REF, _MASK, kind="localai")

        assert sent.target == "/v1/images/inpainting"
        assert sent.files() == [("image", PNG), ("mask", PNG_2)]

    async def test_a_prompt_with_a_pipe_is_refused_and_so_is_its_material(self) -> None:
        assert await _refused(generation("a fox | blurry", size="512x512"), "localai") == "prompt"
        assert await _refused(generation(size="512x512", text_material="a|b"), "localai") == "prompt"

    async def test_size_auto_and_what_it_would_ignore_are_refused(self) -> None:
        assert await _refused(generation(), "localai") == "size"
        assert await _refused(generation(size="512x512", quality="high"), "localai") == "quality"
        assert await _refused(generation(size="512x512", background="transparent"), "localai") == "background"
        assert _declared("localai", "size:auto", "size:512x512", "edit", "variation", "quality:high") == [
            "unsupported", "unknown", "unknown", "unsupported", "unsupported",
        ]  # fmt: skip


class TestVllmOmni:
    async def test_a_generation_asks_for_base64_and_passes_extras_on(self) -> None:
        extras: dict[str, object] = {"seed": 7, "num_inference_steps": 30, "negative_prompt": "blurry"}

        _, sent = await exchange(generation(size="1024x1024", extras=extras), kind="vllm_omni")

        assert sent.json() == {
            "model": "m", "prompt": "a red fox", "n": 1, "size": "1024x1024", "response_format": "b64_json", **extras,
        }  # fmt: skip

    async def test_the_mask_is_called_mask_image(self) -> None:
        _, sent = await exchange(edit(_REF, _MASK), _REF, _MASK, kind="vllm_omni")

        assert sent.target == "/v1/images/edits"
        assert sent.files() == [("image", PNG), ("mask_image", PNG_2)]
        assert sent.fields()["response_format"] == "b64_json"

    @pytest.mark.parametrize(
        "error", [{"error": {"message": "bad n", "code": 400}}, {"detail": "bad n"}, {"detail": [{"msg": "bad n"}]}]
    )
    async def test_both_forms_of_its_errors_are_read(self, error: object) -> None:
        async def handler(_request: Request, reply: Reply) -> None:
            await reply.json(error, 400)

        async with FaultServer(handler) as server:
            provider = make_provider(f"{server.origin}/v1", kind="vllm_omni")
            with pytest.raises(Rejected) as refused:
                await provider.generate(generation(), (), attempt_id="a")
            await provider.close()

        assert (refused.value.cause, refused.value.detail) == ("bad_request", "bad n")

    def test_whether_its_model_edits_is_unknown(self) -> None:
        assert _declared("vllm_omni", "generation", "edit", "mask", "extra:seed", "extra:lora") == [
            "supported", "unknown", "unknown", "supported", "unsupported",
        ]  # fmt: skip


class TestSGLang:
    async def test_a_relative_url_is_read_against_the_origin(self) -> None:
        async def handler(request: Request, reply: Reply) -> None:
            if request.method == "GET":
                await reply.send(200, PNG)
            else:
                entry = {"url": "/v1/images/i-1/content", "file_path": "/srv/out.png", "revised_prompt": "a red fox"}
                await reply.json({"data": [entry]})

        async with FaultServer(handler) as server:
            provider = make_provider(f"{server.origin}/v1", kind="sglang", response_format="url")
            result = await provider.generate(generation(), (), attempt_id="a")
            await provider.close()

        assert [it.target for it in server.requests] == ["/v1/images/generations", "/v1/images/i-1/content"]
        assert server.requests[0].json()["response_format"] == "url"
        assert (result.pictures[0].data, result.pictures[0].revised_prompt) == (PNG, None)

    async def test_base64_is_asked_for_and_more_than_it_would_clamp_is_refused(self) -> None:
        _, sent = await exchange(generation(n=10), kind="sglang")

        assert sent.json()["response_format"] == "b64_json"
        assert await _refused(generation(n=11), "sglang") == "n"
        assert await _refused(generation(extras={"lora": "x"}), "sglang") == "lora"


class TestXai:
    async def test_a_size_becomes_a_shape_and_the_cost_is_read_from_ticks(self) -> None:
        answer = {"data": [{"b64_json": _DATA}], "usage": {"cost_in_usd_ticks": 200_000_001}}

        result, sent = await exchange(generation(size="1024x768", quality="high"), kind="xai", answer=answer)

        assert sent.json() == {
            "model": "m", "prompt": "a red fox", "n": 1, "response_format": "b64_json", "aspect_ratio": "4:3",
            "resolution": "1k", "quality": "high",
        }  # fmt: skip
        assert result.cost_microusd == 20_001
        assert result.pictures[0].data == PNG

    async def test_edits_are_json_with_image_for_one_and_images_for_more(self) -> None:
        _, one = await exchange(edit(_REF), _REF, kind="xai")
        _, two = await exchange(edit(_REF, _REF_2), _REF, _REF_2, kind="xai")

        assert one.target == "/v1/images/edits"
        assert one.headers["content-type"] == "application/json"
        assert one.json()["image"] == {"url": _DATA, "type": "image_url"}
        assert two.json()["images"] == [{"url": _DATA, "type": "image_url"}, {"url": _DATA_2, "type": "image_url"}]
        assert "image" not in two.json()

    async def test_a_shape_that_it_has_not_is_refused(self) -> None:
        assert await _refused(generation(size="1000x990"), "xai") == "size"
        assert _declared("xai", "size:1000x990", "size:2048x1024", "size:auto", "edit", "quality:hd") == [
            "unsupported", "unknown", "supported", "supported", "unsupported",
        ]  # fmt: skip

    async def test_two_k_for_large_sizes(self) -> None:
        _, sent = await exchange(generation(size="2048x2048"), kind="xai")

        assert sent.json()["resolution"] == "2k"


class TestArk:
    _MODEL = "doubao-seedream-4-5-251128"

    async def test_a_generation_is_without_watermark_and_single(self) -> None:
        answer = picture_body(PNG) | {"usage": {"generated_images": 1, "output_tokens": 16_280}}

        result, sent = await exchange(generation(size="2048x2048"), kind="ark", answer=answer)

        assert sent.json() == {
            "model": "m", "prompt": "a red fox", "response_format": "b64_json", "watermark": False,
            "sequential_image_generation": "disabled", "size": "2048x2048",
        }  # fmt: skip
        assert result.usage == {"generated_images": 1, "output_tokens": 16_280}

    async def test_references_go_to_generations_as_a_string_or_a_list(self) -> None:
        _, one = await exchange(edit(_REF), _REF, kind="ark")
        _, two = await exchange(edit(_REF, _REF_2, n=3), _REF, _REF_2, kind="ark")

        assert one.target == two.target == "/v1/images/generations"
        assert one.json()["image"] == _DATA
        assert two.json()["image"] == [_DATA, _DATA_2]
        assert two.json()["sequential_image_generation"] == "auto"
        assert two.json()["sequential_image_generation_options"] == {"max_images": 3}

    async def test_inputs_and_outputs_together_are_fifteen_at_most(self) -> None:
        references = (_REF,) * 10

        assert await _refused(edit(*references, n=6), "ark", *references) == "n"

    async def test_a_picture_that_failed_is_no_picture(self) -> None:
        answer = {"data": [{"error": {"code": "x", "message": "y"}}, {"b64_json": base64.b64encode(PNG).decode()}]}

        result, _ = await exchange(generation(n=2), kind="ark", answer=answer)

        assert [it.data for it in result.pictures] == [PNG]

    def test_references_are_known_of_seedream_four_and_five_only(self) -> None:
        assert _declared("ark", "edit", "edit_multi", "mask", model=self._MODEL) == [
            "supported", "supported", "unsupported",
        ]  # fmt: skip
        assert _declared("ark", "edit", model="doubao-seedream-3-0-t2i") == ["unknown"]


class TestTogether:
    async def test_a_size_becomes_width_and_height_and_base64_has_its_own_name(self) -> None:
        answer = {
            "id": "oF-1", "model": "m",
            "data": [{"index": 1, "b64_json": base64.b64encode(PNG_2).decode()},
                     {"index": 0, "b64_json": base64.b64encode(PNG).decode()}],
        }  # fmt: skip

        result, sent = await exchange(
            generation(n=2, size="1024x768", extras={"steps": 4}), kind="together", answer=answer
        )

        assert sent.json() == {
            "model": "m", "prompt": "a red fox", "n": 2, "response_format": "base64", "output_format": "png",
            "width": 1024, "height": 768, "steps": 4,
        }  # fmt: skip
        assert [it.data for it in result.pictures] == [PNG, PNG_2]
        assert result.provider_request_id == "oF-1"

    async def test_one_reference_is_image_url_and_more_are_reference_images(self) -> None:
        _, one = await exchange(edit(_REF), _REF, kind="together")
        _, two = await exchange(edit(_REF, _REF_2), _REF, _REF_2, kind="together")

        assert one.json()["image_url"] == _DATA
        assert two.json()["reference_images"] == [_DATA, _DATA_2]

    async def test_more_than_four_pictures_and_a_mask_are_refused(self) -> None:
        assert await _refused(generation(n=5), "together") == "n"
        assert await _refused(edit(_REF, _MASK), "together", _REF, _MASK) == "mask"


class TestSiliconFlow:
    async def test_own_names_out_and_images_back_by_url(self) -> None:
        async def handler(request: Request, reply: Reply) -> None:
            if request.method == "GET":
                await reply.send(200, PNG)
            else:
                answer = {"images": [{"url": "/a.png"}, {"url": "/b.png"}], "timings": {"inference": 1.5}, "seed": 3}
                await reply.json(answer, x_siliconcloud_trace_id="ti-1")

        async with FaultServer(handler) as server:
            models = [{"name": "m", "upstream": "Kwai-Kolors/Kolors"}]
            provider = make_provider(f"{server.origin}/v1", kind="siliconflow", models=models)
            result = await provider.generate(generation(n=2, size="960x1280"), (), attempt_id="a")
            await provider.close()

        assert server.requests[0].json() == {
            "model": "Kwai-Kolors/Kolors", "prompt": "a red fox", "batch_size": 2, "image_size": "960x1280",
        }  # fmt: skip
        assert len(result.pictures) == 2
        assert result.provider_request_id == "ti-1"

    async def test_references_are_numbered(self) -> None:
        models = [{"name": "m", "upstream": "Qwen/Qwen-Image-Edit-2509"}]

        _, sent = await exchange(edit(_REF, _REF_2), _REF, _REF_2, kind="siliconflow", models=models)

        assert (sent.json()["image"], sent.json()["image2"]) == (_DATA, _DATA_2)

    async def test_several_pictures_of_another_model_and_a_size_of_an_edit_model_are_refused(self) -> None:
        assert await _refused(generation(n=2), "siliconflow") == "n"
        assert await _refused(edit(_REF, size="8x8"), "siliconflow", _REF, model="Qwen/Qwen-Image-Edit") == "size"
        assert _declared("siliconflow", "edit", "edit_multi", model="Qwen/Qwen-Image-Edit") == ["supported", "unknown"]


class TestGemini:
    async def test_only_known_fields_are_sent_and_everything_else_is_refused(self) -> None:
        _, sent = await exchange(generation(n=2, end_user="u"), kind="gemini")

        assert sent.json() == {"model": "m", "prompt": "a red fox", "n": 2, "response_format": "b64_json"}
        assert await _refused(generation(quality="high"), "gemini") == "quality"
        assert await _refused(edit(_REF), "gemini", _REF) == "image"

    def test_generating_itself_is_unknown(self) -> None:
        assert _declared("gemini", "generation", "edit") == ["unknown", "unsupported"]


class TestAzure:
    async def test_the_deployment_is_in_the_path_and_the_key_in_its_own_header(self) -> None:
        models = [{"name": "m", "upstream": "my deployment"}]

        _, sent = await exchange(
            generation(quality="high"), kind="azure", api_version="2025-04-01-preview", models=models
        )

        assert sent.target == (
            "/v1/openai/deployments/my%20deployment/images/generations?api-version=2025-04-01-preview"
        )
        assert sent.json() == {"prompt": "a red fox", "n": 1, "quality": "high"}
        assert sent.headers["api-key"] == KEY
        assert "authorization" not in sent.headers

    async def test_edits_are_the_same_form(self) -> None:
        _, sent = await exchange(edit(_REF, _MASK), _REF, _MASK, kind="azure", api_version="v")

        assert sent.path.endswith("/images/edits")
        assert sent.files() == [("image", PNG), ("mask", PNG_2)]

    async def test_an_inner_policy_error_is_a_refused_prompt(self) -> None:
        error = {
            "error": {"code": "BadRequest", "message": "m", "inner_error": {"code": "ResponsibleAIPolicyViolation"}}
        }

        async def handler(_request: Request, reply: Reply) -> None:
            await reply.json(error, 400)

        async with FaultServer(handler) as server:
            provider = make_provider(server.origin, kind="azure", api_version="v")
            with pytest.raises(Rejected) as refused:
                await provider.generate(generation(), (), attempt_id="a")
            await provider.close()

        assert refused.value.cause == "content_policy"

    def test_variations_are_none(self) -> None:
        assert _declared("azure", "generation", "variation") == ["supported", "unsupported"]


@pytest.mark.parametrize(
    "kind", ["localai", "vllm_omni", "sglang", "xai", "ark", "minimax", "together", "siliconflow", "gemini"]
)
def test_no_deviation_claims_variations_or_an_extra_that_it_does_not_know(kind: str) -> None:
    assert _declared(kind, "variation", "extra:whatever") == [Support.UNSUPPORTED, Support.UNSUPPORTED]
