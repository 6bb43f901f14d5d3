"""Routing of model names and the fingerprint of calls."""

from __future__ import annotations

import msgspec
import pytest

from svc_imagegen.domain.fingerprint import fingerprint
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.domain.routing import Catalog

REQUEST = ImageRequest(operation=Operation.EDIT, model="m", prompt="a", extras={"seed": 1, "steps": 2})
UPLOADS = (("image", "aa"), ("image", "bb"))


def of(request: ImageRequest = REQUEST, **changed) -> str:
    return fingerprint(request, **{"account_id": "acme", "provider": "p", "uploads": UPLOADS} | changed)


def test_first_provider_has_a_shared_name_and_the_other_its_explicit_one():
    catalog = Catalog([("a", "m", False), ("b", "m", True), ("b", "org/m", False)], default_model="org/m")

    assert [it.public_id for it in catalog.routes] == ["m", "b/m", "org/m"]
    assert [catalog.find(it).provider for it in ("m", "a/m", "b/m", "org/m", None)] == ["a", "a", "b", "b", "b"]
    assert catalog.find("c/m") is None
    assert catalog.find("") is None


def test_model_listed_twice_by_a_provider_is_one_model():
    catalog = Catalog([("a", "m", False), ("a", "m", False)], default_model="m")

    assert [it.public_id for it in catalog.routes] == ["m"]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "b"}, {"n": 2}, {"size": "64x64"}, {"quality": "high"}, {"operation": Operation.VARIATION},
        {"text_material": "t"}, {"extras": {"seed": 2, "steps": 2}}, {"model": "m2"}, {"output_format": "webp"},
        {"background": "opaque"}, {"input_fidelity": "high"}, {"end_user": "u"}, {"moderation": "low"},
        {"output_compression": 50},
    ],
)  # fmt: skip
def test_any_field_that_makes_another_picture_makes_another_fingerprint(change):
    assert of(msgspec.structs.replace(REQUEST, **change)) != of()


@pytest.mark.parametrize(
    "changed",
    [
        {"account_id": "other"}, {"provider": "q"}, {"uploads": UPLOADS[::-1]}, {"uploads": UPLOADS[:1]},
        {"uploads": (("image", "aa"), ("mask", "bb"))},
    ],
)  # fmt: skip
def test_account_provider_and_uploads_are_part_of_the_fingerprint(changed):
    assert of(**changed) != of()


def test_order_of_provider_fields_is_not_part_of_the_fingerprint():
    assert of(msgspec.structs.replace(REQUEST, extras={"steps": 2, "seed": 1})) == of()
