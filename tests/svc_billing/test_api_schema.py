"""The API against its own OpenAPI document, by schemathesis: no 5xx, and every answer as the document says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema
from tests.kit.servers import free_port
from tests.svc_billing.edge_kit import DEADLINE_S, TOKEN, environment

from svc_billing.api.openapi import OPERATIONS

pytestmark = [pytest.mark.nats, pytest.mark.postgres]

# In the gate; `QRAFT_N_EXAMPLES=500` is the long run.
N_EXAMPLES = int(os.environ.get("QRAFT_N_EXAMPLES", "20"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def api_schema(nats_url: str, postgres_dsn: str, tmp_path: Path) -> Iterator[OpenApiSchema]:
    """The document of a running service, with its address."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    variables = environment(postgres_dsn, nats_url=nats_url, QRAFT_HTTP_PORT=str(port), QRAFT_BILLING_ADMIN_TOKEN=TOKEN)
    with (tmp_path / "service.log").open("wb") as log:
        service = subprocess.Popen([sys.executable, "-m", "svc_billing"], env=variables, stdout=log, stderr=log)
    try:
        until_ready(url, service)
        yield schemathesis.openapi.from_url(f"{url}/api/openapi.json", headers=AUTHORIZED)
    finally:
        service.terminate()
        assert service.wait(DEADLINE_S) == 0, (tmp_path / "service.log").read_text()[-3000:]


def until_ready(url: str, service: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        assert service.poll() is None and time.monotonic() < deadline
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_api_answers_as_its_document_says(api_schema: OpenApiSchema, mode: GenerationMode) -> None:
    n_operations = 0
    for found in api_schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=N_EXAMPLES,
            deadline=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        def answers_as_said(case: Case) -> None:
            case.call_and_validate(headers=AUTHORIZED, checks=CHECKS, timeout=10.0)

        answers_as_said()
        n_operations += 1

    assert n_operations == len(OPERATIONS) - 1  # schemathesis leaves out where the document itself is
