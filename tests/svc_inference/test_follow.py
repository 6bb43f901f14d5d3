"""Following the registry: swaps are whole, failures keep or empty seats as they must, nothing is retried in a spin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.libs.registry.kit import NOW, put_model
from tests.svc_inference.kit import BASE, make_model

from qraft_contracts.outcomes import Transient
from qraft_contracts.subjects import HORIZONS
from qraft_registry.domain import Slot
from qraft_registry.memory import MemoryRegistryStore
from qraft_registry.registry import Registry
from qraft_store.artefacts.memory import MemoryArtefactStore
from svc_inference.adapters.onnx import OnnxModelSource
from svc_inference.domain.model import ActiveModel
from svc_inference.usecases.follow import FollowRegistry

FIRST, SECOND = make_model(), make_model(base=[value * 0.9 for value in BASE])


class Actives:
    """ActiveModels over a memory registry, which can be told to be away."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.is_away = False

    async def active(self) -> Mapping[str, ActiveModel]:
        if self.is_away:
            raise Transient("registry_unavailable", "told to be away")
        return {
            slot.horizon: ActiveModel(d.model_id, d.evidence.get("model"))
            for slot, d in (await self.registry.active()).items()
        }


class Bench:
    def __init__(self) -> None:
        # What the registry judged and what the service finds: the same, unless a test spoils the latter.
        self.artefacts = MemoryArtefactStore()
        self.served = MemoryArtefactStore()
        self.registry = Registry(store=MemoryRegistryStore(), artefacts=self.artefacts, now=lambda: NOW)
        self.actives = Actives(self.registry)
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.follow = FollowRegistry(
            registry=self.actives,
            source=OnnxModelSource(self.served, n_threads=1),
            refresh_s=30.0,
            tell=lambda event, fields: self.told.append((event, fields)),
        )

    async def activate(self, model: bytes, *, without: str = "", spoil: bytes = b"") -> str:
        """Activate a model; in the served store the file `without` is missing and its ONNX file has bytes added."""
        model_id = await put_model(self.artefacts, model)
        for key in await self.artefacts.keys(f"models/{model_id}/"):
            name, data = key.rsplit("/", 1)[1], await self.artefacts.get(key)
            if name != without:
                await self.served.put(key, data + spoil if name == "model.onnx" else data)
        await self.registry.register_candidate(model_id, actor="ada", reason="trained")
        await self.registry.promote(model_id, actor="ada", reason="gates pass")
        return model_id

    @property
    def models(self) -> dict[str, str | None]:
        return {h: s.model_id if (s := self.follow.board.seat(h)).model else None for h in HORIZONS}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_activated_model_takes_its_seats_and_one_session_serves_all(bench: Bench) -> None:
    model_id = await bench.activate(FIRST)

    await bench.follow.refresh()

    assert bench.models == dict.fromkeys(HORIZONS, model_id)
    assert len({id(bench.follow.board.seat(h).model) for h in HORIZONS}) == 1


async def test_rollback_returns_the_kept_model_without_loading_it_again(bench: Bench) -> None:
    first = await bench.activate(FIRST)
    await bench.follow.refresh()
    kept = bench.follow.board.seat("4h").model
    second = await bench.activate(SECOND)
    await bench.follow.refresh()

    await bench.registry.rollback(Slot("all", "4h"), actor="ada", reason="drift")
    await bench.follow.refresh()

    assert bench.models == {"1h": second, "4h": first, "1d": second, "7d": second}
    assert bench.follow.board.seat("4h").model is kept


async def test_registry_away_keeps_the_models(bench: Bench) -> None:
    model_id = await bench.activate(FIRST)
    await bench.follow.refresh()
    bench.actives.is_away = True

    with pytest.raises(Transient):
        await bench.follow.refresh()

    assert bench.models == dict.fromkeys(HORIZONS, model_id)


async def test_changed_artefact_empties_the_seat_and_the_model_before_does_not_stand_in(bench: Bench) -> None:
    await bench.activate(FIRST)
    await bench.follow.refresh()
    await bench.activate(SECOND, spoil=b"\0")

    await bench.follow.refresh()

    assert bench.models == dict.fromkeys(HORIZONS)
    assert {bench.follow.board.seat(h).reason for h in HORIZONS} == {"artefact_hash_mismatch"}
    assert bench.told[-1][0] == "models.swapped"
    assert any(event == "model.refused" for event, _ in bench.told)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
async def test_missing_artefact_empties_the_seat(bench: Bench, name: str) -> None:
    await bench.activate(FIRST, without=name)

    await bench.follow.refresh()

    assert {(seat.model, seat.reason) for seat in bench.follow.board.seats.values()} == {(None, "artefact_missing")}


async def test_nothing_is_told_when_nothing_changed(bench: Bench) -> None:
    await bench.activate(FIRST)
    await bench.follow.refresh()
    n_told = len(bench.told)

    await bench.follow.refresh()

    assert len(bench.told) == n_told
