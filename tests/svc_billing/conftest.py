"""The ledger on its twin and on a real PostgreSQL: what a test of either of them takes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.svc_billing.kit_core import Books, memory_books, postgres_books


@pytest.fixture(params=["memory", "postgres"])
async def books(request: pytest.FixtureRequest) -> AsyncIterator[Books]:
    """Give an empty ledger of each kind in turn, and check it when the test is over."""
    if request.param == "memory":
        async with memory_books() as made:
            yield made
            await made.check()
    else:
        async with postgres_books(request.getfixturevalue("postgres_dsn")) as made:
            yield made
            await made.check()
