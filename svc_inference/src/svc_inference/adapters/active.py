"""What is active, out of the model registry in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from qraft_registry.postgres import PostgresRegistryStore, open_store
from qraft_registry.registry import Registry
from qraft_store.artefacts.port import ArtefactStore
from svc_inference.domain.model import ActiveModel


class RegistryActiveModels:
    """ActiveModels of one symbol group. Connects on first use, so the service may start before its database."""

    def __init__(self, dsn: str, *, symbol_group: str, artefacts: ArtefactStore, now: Callable[[], datetime]) -> None:
        self._dsn = dsn
        self._symbol_group = symbol_group
        self._artefacts = artefacts
        self._now = now
        self._store: PostgresRegistryStore | None = None

    async def active(self) -> Mapping[str, ActiveModel]:
        """See ActiveModels."""
        if self._store is None:
            self._store = await open_store(self._dsn, application_name="svc_inference")
        registry = Registry(store=self._store, artefacts=self._artefacts, now=self._now)
        return {
            slot.horizon: ActiveModel(decision.model_id, decision.evidence.get("model"))
            for slot, decision in (await registry.active()).items()
            if slot.symbol_group == self._symbol_group
        }

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._store is not None:
            await self._store.close()
