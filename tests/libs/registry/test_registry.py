"""One behaviour suite of the registry, on the memory twin and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from tests.libs.registry.kit import NOW, put_model

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import Bus
from qraft_bus.settings import BusSettings
from qraft_contracts.codec import decode
from qraft_contracts.models import ModelDecision
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_contracts.subjects import HORIZONS
from qraft_registry.artefacts import artefact_key
from qraft_registry.domain import Action, Decision, Slot, Stage
from qraft_registry.gates import PAPER_GATES
from qraft_registry.memory import MemoryRegistryStore
from qraft_registry.ports import Conflict, Draft, RegistryStore
from qraft_registry.postgres import MIGRATIONS, SCHEMA, PostgresRegistryStore
from qraft_registry.registry import Registry
from qraft_store.artefacts.memory import MemoryArtefactStore
from qraft_store.postgres import create_pool, migrate

SLOT = Slot("all", "1h")


@dataclass
class Bench:
    """A registry with its parts, and a clock that goes one minute on with every look."""

    store: RegistryStore
    artefacts: MemoryArtefactStore
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.registry = Registry(store=self.store, artefacts=self.artefacts, now=self.tick)

    def tick(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now

    async def candidate(self, model: bytes, **changes: object) -> str:
        model_id = await put_model(self.artefacts, model, **changes)  # type: ignore[arg-type]
        await self.registry.register_candidate(model_id, actor="ada", reason="trained")
        return model_id

    async def active(self, model: bytes) -> str:
        model_id = await self.candidate(model)
        await self.registry.promote(model_id, actor="ada", reason="gates pass")
        return model_id


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield Bench(MemoryRegistryStore(), MemoryArtefactStore())
        return
    dsn = request.getfixturevalue("postgres_dsn")
    await asyncio.to_thread(migrate, dsn, schema=SCHEMA, migrations=MIGRATIONS)
    pool = await create_pool(dsn, max_size=4)
    yield Bench(PostgresRegistryStore(pool), MemoryArtefactStore())
    await pool.close()


async def test_registered_model_is_a_candidate_of_every_horizon_and_active_nowhere(bench: Bench) -> None:
    model_id = await put_model(bench.artefacts, b"one")

    decisions = await bench.registry.register_candidate(model_id, actor="demo", reason="first run")

    assert [d.slot.horizon for d in decisions] == list(HORIZONS)
    assert {(d.action, d.actor, d.stage) for d in decisions} == {(Action.CANDIDATE, "demo", Stage.CANDIDATE)}
    assert await bench.registry.active() == {}


async def test_registering_the_same_again_adds_nothing(bench: Bench) -> None:
    model_id = await bench.candidate(b"one")

    again = await bench.registry.register_candidate(model_id, actor="bob", reason="again")

    assert len(await bench.registry.history()) == len(HORIZONS)
    assert {d.actor for d in again} == {"ada"}


async def test_promoted_model_is_active_with_actor_reason_and_evidence(bench: Bench) -> None:
    model_id = await bench.active(b"one")

    active = await bench.registry.active()

    assert {slot.horizon for slot in active} == set(HORIZONS)
    decision = active[SLOT]
    assert (decision.model_id, decision.actor, decision.reason) == (model_id, "ada", "gates pass")
    assert set(decision.evidence) == {*PAPER_GATES, "manifest", "model", "proof", "snapshot"}
    assert decision.origin is Origin.REPLAY


async def test_promoting_what_is_active_adds_nothing(bench: Bench) -> None:
    model_id = await bench.active(b"one")
    before = await bench.registry.history()

    again = await bench.registry.promote(model_id, actor="bob", reason="again")

    assert await bench.registry.history() == before
    assert {d.actor for d in again} == {"ada"}


async def test_promotion_of_some_horizons_leaves_the_others(bench: Bench) -> None:
    first = await bench.active(b"one")
    second = await bench.candidate(b"two")

    await bench.registry.promote(second, horizons=["4h"], actor="ada", reason="better at 4h")

    active = await bench.registry.active()
    assert active[Slot("all", "4h")].model_id == second
    assert active[Slot("all", "4h")].previous_model_id == first
    assert {active[Slot("all", h)].model_id for h in ("1h", "1d", "7d")} == {first}


async def test_history_answers_what_was_active_at_an_instant(bench: Bench) -> None:
    first = await bench.active(b"one")
    between = bench.now
    second = await bench.active(b"two")

    assert (await bench.registry.active(at=between))[SLOT].model_id == first
    assert (await bench.registry.active(at=bench.now))[SLOT].model_id == second
    assert await bench.registry.active(at=NOW) == {}


async def test_rollback_returns_the_previous_model_within_a_second(bench: Bench) -> None:
    first = await bench.active(b"one")
    second = await bench.active(b"two")

    began = time.monotonic()
    decision = await bench.registry.rollback(SLOT, actor="ada", reason="drift")
    took_s = time.monotonic() - began

    assert (decision.action, decision.model_id, decision.previous_model_id) == (Action.ROLLED_BACK, first, second)
    active = await bench.registry.active()
    assert active[SLOT].model_id == first and active[Slot("all", "4h")].model_id == second
    assert took_s < 1.0


async def test_second_rollback_goes_one_further_back_and_a_new_promotion_builds_on_that(bench: Bench) -> None:
    first = await bench.active(b"one")
    await bench.active(b"two")
    await bench.active(b"three")

    await bench.registry.rollback(SLOT, actor="ada", reason="drift")
    await bench.registry.rollback(SLOT, actor="ada", reason="drift again")
    fourth = await bench.active(b"four")

    assert (await bench.registry.active())[SLOT].model_id == fourth
    assert (await bench.registry.rollback(SLOT, actor="ada", reason="no")).model_id == first


async def test_rollback_without_an_earlier_model_is_refused_and_recorded(bench: Bench) -> None:
    model_id = await bench.active(b"one")

    with pytest.raises(Refused, match="no_earlier_model"):
        await bench.registry.rollback(SLOT, actor="ada", reason="drift")

    last = (await bench.registry.history())[-1]
    assert (last.action, last.actor, last.reason) == (Action.REFUSED, "ada", "drift")
    assert (await bench.registry.active())[SLOT].model_id == model_id


async def test_qualified_is_refused_because_its_gates_come_later(bench: Bench) -> None:
    model_id = await bench.active(b"one")

    with pytest.raises(Refused, match=r"no_qualified_gates.*later version"):
        await bench.registry.promote(model_id, stage=Stage.QUALIFIED, actor="ada", reason="hope")

    assert {d.stage for d in (await bench.registry.active()).values()} == {Stage.PAPER}
    assert (await bench.registry.history())[-1].stage is Stage.QUALIFIED


@pytest.mark.parametrize("gate", ["leakage", "data_quality", "parity", "origin"])
async def test_failed_gate_refuses_the_promotion_of_all_horizons(bench: Bench, gate: str) -> None:
    model_id = await bench.candidate(b"one", evidence={gate: {"n_failed": 3}})

    with pytest.raises(Refused, match=f"gate_failed: {gate}: failed"):
        await bench.registry.promote(model_id, actor="ada", reason="please")

    refused = [d for d in await bench.registry.history() if d.action is Action.REFUSED]
    assert len(refused) == len(HORIZONS) and await bench.registry.active() == {}
    assert all(d.refusal and gate in d.refusal for d in refused)


async def test_simulated_model_may_be_a_candidate_and_never_paper(bench: Bench) -> None:
    simulated = {"origin": Origin.SIMULATED}
    gates = ("leakage", "data_quality", "parity", "origin")
    model_id = await bench.candidate(b"one", manifest=simulated, evidence=dict.fromkeys(gates, simulated))

    with pytest.raises(Refused, match="simulated_origin"):
        await bench.registry.promote(model_id, actor="ada", reason="please")


async def test_model_that_is_no_candidate_is_refused(bench: Bench) -> None:
    model_id = await put_model(bench.artefacts, b"one")

    with pytest.raises(Refused, match="not_a_candidate"):
        await bench.registry.promote(model_id, actor="ada", reason="please")


async def test_candidate_of_two_months_ago_is_stale(bench: Bench) -> None:
    model_id = await bench.candidate(b"one")
    bench.now += timedelta(days=60)

    with pytest.raises(Refused, match="stale"):
        await bench.registry.promote(model_id, actor="ada", reason="please")


async def test_unknown_model_is_refused_and_recorded_as_of_the_worst_origin(bench: Bench) -> None:
    with pytest.raises(Refused, match="no_manifest"):
        await bench.registry.register_candidate("m" + "0" * 16, actor="ada", reason="please")

    assert {d.origin for d in await bench.registry.history()} == {Origin.SIMULATED}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "manifest/9"}, "bad_manifest"),
        ({"model_id": "m" + "0" * 16}, "bad_manifest"),
        ({"horizons": ()}, "bad_manifest"),
        ({"horizons": ("2h",)}, "bad_manifest"),
        ({"files": {}}, "hash_mismatch"),
    ],
)
async def test_manifest_that_does_not_fit_its_model_is_refused(
    bench: Bench, changes: dict[str, object], reason: str
) -> None:
    model_id = await put_model(bench.artefacts, b"one", manifest=changes)

    with pytest.raises(Refused, match=reason):
        await bench.registry.register_candidate(model_id, actor="ada", reason="please")


async def test_missing_model_file_is_refused(bench: Bench) -> None:
    complete = MemoryArtefactStore()
    model_id = await put_model(complete, b"one")
    for key in await complete.keys(f"models/{model_id}/"):
        if not key.endswith(".onnx"):
            await bench.artefacts.put(key, await complete.get(key))

    with pytest.raises(Refused, match=f"no_model: expected {artefact_key(model_id, 'model.onnx')}"):
        await bench.registry.register_candidate(model_id, actor="ada", reason="please")


async def test_horizon_that_the_model_does_not_serve_is_refused(bench: Bench) -> None:
    model_id = await put_model(bench.artefacts, b"one", manifest={"horizons": ("1h",)})

    with pytest.raises(Refused, match="horizon_not_served"):
        await bench.registry.register_candidate(model_id, horizons=["4h"], actor="ada", reason="please")


@pytest.mark.parametrize(
    ("actor", "reason", "code"),
    [("", "why", "no_actor"), (" ", "why", "no_actor"), ("ada", "", "no_reason"), ("ada", "\n", "no_reason")],
)
async def test_command_without_a_person_or_a_reason_is_refused(
    bench: Bench, actor: str, reason: str, code: str
) -> None:
    model_id = await put_model(bench.artefacts, b"one")

    for move in (
        bench.registry.register_candidate(model_id, actor=actor, reason=reason),
        bench.registry.promote(model_id, actor=actor, reason=reason),
        bench.registry.rollback(SLOT, actor=actor, reason=reason),
    ):
        with pytest.raises(Refused, match=code):
            await move

    assert await bench.registry.history() == []


@pytest.mark.parametrize("model_id", ["", "m1", "../../etc", "m" + "G" * 16])
async def test_id_that_is_no_model_id_is_refused(bench: Bench, model_id: str) -> None:
    with pytest.raises(Refused, match="bad_model_id"):
        await bench.registry.promote(model_id, actor="ada", reason="please")


class MeetingStore:
    """A store whose first two readers wait for each other, so that both decide on the same history."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store
        self._meeting = asyncio.Barrier(2)
        self._n_readers = 0

    async def decisions(self) -> list[Decision]:
        found = await self._store.decisions()
        self._n_readers += 1
        if self._n_readers <= 2:
            await self._meeting.wait()
        return found

    async def append(self, drafts: Sequence[Draft], *, expected_seq: int) -> list[Decision]:
        return await self._store.append(drafts, expected_seq=expected_seq)

    async def publish_pending(self, bus: Bus) -> int:
        return await self._store.publish_pending(bus)


async def test_two_promotions_at_once_have_one_winner_and_the_loser_is_told(bench: Bench) -> None:
    first, second = await bench.candidate(b"one"), await bench.candidate(b"two")
    racing = Registry(store=MeetingStore(bench.store), artefacts=bench.artefacts, now=bench.tick)

    outcomes = await asyncio.gather(
        racing.promote(first, actor="ada", reason="mine"),
        racing.promote(second, actor="bob", reason="mine"),
        return_exceptions=True,
    )

    losers = [outcome.reason for outcome in outcomes if isinstance(outcome, Refused)]
    history = await bench.registry.history()
    winners = {d.model_id for d in history if d.action is Action.ACTIVATED}
    told = {d.model_id for d in history if d.action is Action.REFUSED}
    assert losers == ["overtaken"] and {winners.pop(), told.pop()} == {first, second}
    assert {d.model_id for d in (await bench.registry.active()).values()} != told


async def test_two_promotions_of_the_same_model_at_once_are_one(bench: Bench) -> None:
    model_id = await bench.candidate(b"one")
    racing = Registry(store=MeetingStore(bench.store), artefacts=bench.artefacts, now=bench.tick)

    await asyncio.gather(*(racing.promote(model_id, actor=actor, reason="mine") for actor in ("ada", "bob")))

    activated = [d for d in await bench.registry.history() if d.action is Action.ACTIVATED]
    assert len(activated) == len(HORIZONS)


async def test_append_after_another_decision_is_a_conflict(bench: Bench) -> None:
    draft = Draft(Action.CANDIDATE, "m" + "0" * 16, SLOT, Stage.CANDIDATE, "ada", "x", NOW, Origin.REPLAY)
    await bench.store.append([draft], expected_seq=0)

    with pytest.raises(Conflict):
        await bench.store.append([draft], expected_seq=0)

    assert [d.seq for d in await bench.store.decisions()] == [1]


async def test_clock_that_goes_back_does_not_turn_the_history_around(bench: Bench) -> None:
    await bench.active(b"one")
    bench.now -= timedelta(days=1)

    await bench.active(b"two")

    instants = [d.decided_at for d in await bench.registry.history()]
    assert instants == sorted(instants)


async def test_every_decision_is_published_once_and_in_order(bench: Bench) -> None:
    bus = MemoryBus(MemoryBroker(), name="test", settings=BusSettings())
    await bus.start()
    await bench.active(b"one")
    await bench.active(b"two")
    with pytest.raises(Refused):
        await bench.registry.promote("m" + "0" * 16, actor="ada", reason="please")
    await bench.registry.rollback(SLOT, actor="ada", reason="drift")

    n_first = await bench.store.publish_pending(bus)
    n_second = await bench.store.publish_pending(bus)

    history = await bench.registry.history()
    assert (n_first, n_second) == (len(history), 0)
    newest = await bus.last("models.rolled_back")
    assert newest is not None
    message = decode(newest.data, ModelDecision)
    assert (message.decision_id, message.action, message.actor) == (history[-1].decision_id, "rolled_back", "ada")
    refused = await bus.last("models.refused")
    assert refused is not None and decode(refused.data, ModelDecision).reason.startswith("no_manifest")
    await bus.drain()
