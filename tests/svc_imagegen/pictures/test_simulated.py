"""Placeholders that look good and can never be taken for a model's work."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image
from tests.svc_imagegen.pictures import corpus

from svc_imagegen.adapters.providers.simulated import SimulatedProvider
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.outcome import Rejected
from svc_imagegen.domain.request import ImageRequest, Operation, Reference
from svc_imagegen.ports import ReferenceBytes


def request(prompt: str = "a lighthouse", size: str = "256x256", **changed: object) -> ImageRequest:
    values: dict[str, object] = {
        "operation": Operation.GENERATION,
        "model": "simulated-1",
        "prompt": prompt,
        "size": size,
    }
    return ImageRequest(**(values | changed))  # type: ignore[arg-type]


def reference(data: bytes, role: str = "image") -> ReferenceBytes:
    return ReferenceBytes(Reference("k", "0" * 64, "image/png", 64, 48, len(data), role), data)


async def drawn(asked: ImageRequest, *references: ReferenceBytes, attempt_id: str = "j-1") -> list[bytes]:
    answer = await SimulatedProvider().generate(asked, references, attempt_id=attempt_id)
    return [it.data for it in answer.pictures]


@pytest.mark.parametrize("size", ["16x16", "64x64", "512x512", "1536x1024", "40x2048", "2048x2048", "auto"])
async def test_picture_has_the_size_that_was_asked_for(size: str) -> None:
    (data,) = await drawn(request(size=size))

    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        assert f"{opened.width}x{opened.height}" == ("1024x1024" if size == "auto" else size)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_picture_has_the_format_that_was_asked_for_and_passes_verification(kind: str) -> None:
    pool = corpus.small_pool()
    (data,) = await drawn(request(output_format=kind))

    assert (await pool.verify(data)).media_type == f"image/{kind}"
    await pool.close()


async def test_same_attempt_draws_the_same_and_another_one_does_not() -> None:
    first = await drawn(request(n=2), attempt_id="a-1")

    assert await drawn(request(n=2), attempt_id="a-1") == first
    assert await drawn(request(n=2), attempt_id="a-2") != first
    assert first[0] != first[1]
    assert await drawn(request("another prompt", n=2), attempt_id="a-1") != first


async def test_seed_decides_whatever_the_attempt_is() -> None:
    seeded = request(extras={"seed": 7})

    assert await drawn(seeded, attempt_id="a-1") == await drawn(seeded, attempt_id="b-1")


async def test_label_covers_the_middle_of_every_picture() -> None:
    # The band is dark and carries white and yellow; a prompt cannot paint over it.
    for prompt in ("white", "一只猫", "\ud800 broken", "x" * 30_000):
        (data,) = await drawn(request(prompt, size="600x400"))
        with Image.open(io.BytesIO(data)) as opened:
            rgb = opened.convert("RGB")
            band = rgb.crop((0, 120, 600, 280))
            colors = {color for _, color in band.getcolors(1 << 20)}  # type: ignore[union-attr]
            assert (255, 255, 255) in colors
            assert (255, 196, 0) in colors
            assert max(rgb.getpixel((3, 200))) < 128  # type: ignore[type-var, arg-type]


async def test_references_are_drawn_in() -> None:
    red = corpus.encoded(Image.new("RGB", (64, 48), (255, 0, 0)), "png")
    edit = request(operation=Operation.EDIT, size="512x512", extras={"seed": 1})

    (without,) = await drawn(edit)
    (with_red,) = await drawn(edit, reference(red))

    assert (255, 0, 0) not in _colors(without)
    assert (255, 0, 0) in _colors(with_red)


async def test_transparent_background_is_transparent_at_the_corners() -> None:
    (data,) = await drawn(request(background="transparent"))

    with Image.open(io.BytesIO(data)) as opened:
        assert opened.getpixel((0, 0))[3] == 0  # type: ignore[index]
        assert opened.getpixel((128, 128))[3] == 255  # type: ignore[index]


@pytest.mark.parametrize("size", ["15x64", "2049x64", "0x0", "x", "64", "-1x5", "64x64x64", "99999999999x1", "６４x64"])
async def test_size_that_it_does_not_draw_is_rejected_by_name(size: str) -> None:
    with pytest.raises(Rejected) as caught:
        await drawn(request(size=size))

    assert caught.value.param == "size"
    assert SimulatedProvider().declared("simulated-1", f"size:{size}") is Support.UNSUPPORTED


@pytest.mark.parametrize(
    ("changed", "param"), [({"n": 0}, "n"), ({"n": 11}, "n"), ({"output_format": "svg"}, "output_format")]
)
async def test_what_it_cannot_do_is_rejected_by_name(changed: dict[str, object], param: str) -> None:
    with pytest.raises(Rejected) as caught:
        await drawn(request(**changed))  # type: ignore[arg-type]

    assert caught.value.param == param


async def test_declares_what_it_does_and_nothing_about_other_models() -> None:
    provider = SimulatedProvider()

    for feature in ("generation", "edit", "edit_multi", "mask", "variation", "size:auto", "size:512x512"):
        assert provider.declared("simulated-1", feature) is Support.SUPPORTED
    for feature in ("output_format:svg", "size:9000x9000", "extra:lora", "video"):
        assert provider.declared("simulated-1", feature) is Support.UNSUPPORTED
    assert provider.declared("gpt-image-2", "generation") is Support.UNKNOWN


async def test_answer_says_that_it_cost_nothing_and_the_provider_that_it_is_simulated() -> None:
    provider = SimulatedProvider(delay_s=0.05)
    started_s = time.monotonic()

    answer = await provider.generate(request(), (), attempt_id="j-1")

    assert time.monotonic() - started_s >= 0.05
    assert answer.cost_microusd == 0
    assert provider.is_simulated
    assert answer.provider_request_id is not None
    assert (await provider.look_up(answer.provider_request_id)).status == "unknown"


def _colors(data: bytes) -> set[object]:
    with Image.open(io.BytesIO(data)) as opened:
        return {color for _, color in opened.convert("RGB").getcolors(1 << 22)}  # type: ignore[union-attr]
