"""One gateway for the tests that need no terms of their own; each test has accounts of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.svc_imagegen.api.stage import Person, Stage, staged

from svc_imagegen.api.terms import GatewayTerms

TERMS = GatewayTerms(
    sync_window_s=8.0, stream_window_s=8.0, keepalive_s=0.1, body_bytes_max=2 << 20, reference_bytes_max=1 << 20,
    references_max=4, n_event_clients_max=4,
)  # fmt: skip


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    with staged(TERMS) as running:
        yield running


@pytest.fixture
def ann(stage: Stage) -> Person:
    return stage.person()
