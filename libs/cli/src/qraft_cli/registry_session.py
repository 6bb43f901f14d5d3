"""The registry as the `qraft` command uses it: on the stack's PostgreSQL, bus and artefacts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_cli.stack.home import find_home
from qraft_cli.stack.session import NotRunning, find_addresses
from qraft_registry.postgres import PostgresRegistryStore, open_store
from qraft_registry.registry import Registry
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.artefacts.port import ArtefactStore


@dataclass(frozen=True, slots=True)
class RegistrySession:
    """An open registry and the way to tell the services what was decided."""

    registry: Registry
    artefacts: ArtefactStore
    store: PostgresRegistryStore
    nats_url: str

    async def publish_decisions(self) -> None:
        """Publish what was decided and is not yet out. Until then the services follow within 30 s by themselves."""
        bus = NatsBus(self.nats_url, name="qraft_cli", settings=BusSettings())
        await bus.start()
        try:
            await self.store.publish_pending(bus)
        finally:
            await bus.drain()


@asynccontextmanager
async def open_registry() -> AsyncIterator[RegistrySession]:
    """
    Open the registry of the running stack while the block runs.

    Raises:
        NotRunning: if no PostgreSQL is known.
    """
    addresses = find_addresses()
    if not addresses.postgres_dsn:
        raise NotRunning("no PostgreSQL is known: start the stack with `qraft up` or set QRAFT_POSTGRES_DSN")
    store = await open_store(addresses.postgres_dsn, application_name="qraft")
    try:
        artefacts = ObjectArtefactStore(os.environ.get("QRAFT_ARTEFACTS_URL") or str(find_home().root / "artefacts"))
        registry = Registry(store=store, artefacts=artefacts, now=lambda: datetime.now(UTC))
        yield RegistrySession(registry, artefacts, store, addresses.nats_url)
    finally:
        await store.close()
