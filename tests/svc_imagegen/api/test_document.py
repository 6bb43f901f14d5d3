"""The OpenAPI document is true: schemathesis sends what it allows and what it forbids, and nothing breaks."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from tests.svc_imagegen.api.stage import staged

from svc_imagegen.api.terms import GatewayTerms
from svc_imagegen.usecases.authenticate import ADMIN, READ, WRITE

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
]
# In a form a number is a text as well, and what is wrong with a header is put right by the key that is sent.
JSON_ONLY = {"createJob", "createImage", "estimate", "createKey", "declareCapability", "probe"}
N_EXAMPLES = 12


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[str, dict[str, str]]]:
    with staged(GatewayTerms(sync_window_s=5.0, body_bytes_max=1 << 20)) as stage:
        person = stage.person(n_credits=10**9, scopes=[READ, WRITE, ADMIN])
        yield stage.url, {"Authorization": person.headers["authorization"]}


@pytest.fixture(scope="module")
def document(gateway):
    url, _ = gateway
    found = schemathesis.openapi.from_dict(httpx.get(f"{url}/api/openapi.json").json())
    found.config.base_url = url
    return found


def operations() -> list[str]:
    """Return the names of all operations but the streaming one."""
    # The table needs no running parts; only its names are read here.
    return [
        "createJob", "listJobs", "getJob", "deleteJob", "cancelJob", "createImage", "createImageEdit",
        "createImageVariation", "listModels", "retrieveModel", "estimate", "getAccount", "getAsset", "getAssetContent",
        "getDocument", "createKey", "listKeys", "revokeKey", "listProviders", "listCapabilities", "declareCapability",
        "probe",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda it: it.value)
@pytest.mark.parametrize("name", operations())
def test_operation_conforms_to_the_document(document, gateway, name, mode):
    _, headers = gateway
    operation = document.find_operation_by_id(name)

    @settings(
        max_examples=N_EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def check(case):
        is_strict = name in JSON_ONLY and case.media_type == "application/json" and case.body is not NOT_SET
        checks = [*CHECKS, negative_data_rejection] if is_strict else CHECKS
        case.call_and_validate(headers=headers, checks=checks)

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "an operation without parameters has nothing to get wrong"


def test_every_operation_of_the_document_is_tested(document):
    found = {it.ok().definition.raw["operationId"] for it in document.get_all_operations()}

    assert found - {"followJob"} == set(operations())
