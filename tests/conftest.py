"""Fixtures that all tests share: real servers and real data."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
import structlog
from tests.kit.servers import NatsServer, PostgresServer, nats_server, postgres_server

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _log_given_back() -> Iterator[None]:
    """A command or service binds the log to the streams of its test, which are closed after it."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.basicConfig(force=True)


@pytest.fixture(scope="session")
def nats_session() -> Iterator[NatsServer]:
    """One nats-server for the whole run. Tests use `nats_url`, which also cleans up; never kill this one."""
    with nats_server() as server:
        yield server


@pytest.fixture
def nats_url(nats_session: NatsServer) -> Iterator[str]:
    """Address of a real nats-server with JetStream on disk and no streams in it."""
    yield nats_session.url
    asyncio.run(_delete_streams(nats_session.url))


async def _delete_streams(url: str) -> None:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    for stream in await jetstream.streams_info():
        assert stream.config.name is not None
        await jetstream.delete_stream(stream.config.name)
    await client.close()


@pytest.fixture(scope="session")
def postgres_session() -> Iterator[PostgresServer]:
    """One PostgreSQL cluster for the whole run. Tests use `postgres_dsn`; never crash this one."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_session: PostgresServer) -> Iterator[str]:
    """Address of a fresh, empty database in a real PostgreSQL."""
    with postgres_session.fresh_database() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def qraft_data() -> Path:
    """Folder of the real data sets (bars, funding, …)."""
    folder = Path(os.environ.get("QRAFT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"REAL DATA MISSING: no folder {folder}; set QRAFT_DATA to run this test")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-minutes", type=float, default=1.0, help="how long the soak test goes on")


@pytest.fixture(scope="session")
def soak_minutes(request: pytest.FixtureRequest) -> float:
    """Return how long the soak test goes on."""
    return float(request.config.getoption("--soak-minutes"))
