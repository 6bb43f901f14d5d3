"""
The registry's use cases: register, promote, roll back, and ask what was active.

Every move is a person's command with an actor and a reason. A demonstration acts as `demo`. A refused move is kept
in the history like any other. There is no stage beyond `qualified`: real money has no path here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_registry.domain import ALL_SYMBOLS, Action, Decision, Slot, SlotState, Stage, fold, is_model_id
from qraft_registry.dossier import Dossier, read_dossier
from qraft_registry.gates import CANDIDATE_AGE_MAX, PAPER_GATES, evaluate
from qraft_registry.ports import Conflict, Draft, RegistryStore
from qraft_registry.provenance import readiness_fault
from qraft_store.artefacts.port import ArtefactStore

# A registration meets another writer once in a blue moon; five meetings in a row are a fault, not chance.
_APPEND_TRIES: Final = 5

Plan = Callable[[dict[Slot, SlotState], datetime], list[Draft]]


class Registry:
    """The moves of models through their slots. Stateless: every call reads the history again."""

    def __init__(self, *, store: RegistryStore, artefacts: ArtefactStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._artefacts = artefacts
        self._now = now

    async def register_candidate(
        self,
        model_id: str,
        *,
        actor: str,
        reason: str,
        horizons: Sequence[str] | None = None,
        symbol_group: str = ALL_SYMBOLS,
    ) -> list[Decision]:
        """
        Make a stored model a candidate for horizons (None = all that its manifest names).

        The same model with the same manifest again changes nothing: the first decisions are returned.

        Raises:
            Refused: if actor or reason is empty (not recorded: there is nobody to record), the artefacts are not
                what the manifest says, or the model does not serve a horizon (recorded).
            Transient: if a store is away.
        """
        _check_command(model_id, actor, reason)
        dossier = await read_dossier(self._artefacts, model_id, gates=PAPER_GATES)
        slots = _slots(symbol_group, horizons or dossier.horizons)

        def plan(state: dict[Slot, SlotState], now: datetime) -> list[Draft]:
            fault = dossier.fault or _missing_horizons(dossier, slots)
            drafts = []
            for slot in slots:
                known = state.get(slot, SlotState()).candidates.get(model_id)
                if known and known.evidence == dossier.evidence and not fault:
                    continue
                action = Action.REFUSED if fault else Action.CANDIDATE
                drafts.append(Draft(
                    action, model_id, slot, Stage.CANDIDATE, actor, reason, now, dossier.origin, dossier.evidence,
                    refusal=fault,
                ))  # fmt: skip
            return drafts

        await self._append(plan)
        state = fold(await self._store.decisions())
        return [state[slot].candidates[model_id] for slot in slots]

    async def promote(
        self,
        model_id: str,
        *,
        actor: str,
        reason: str,
        horizons: Sequence[str] | None = None,
        stage: Stage = Stage.PAPER,
        symbol_group: str = ALL_SYMBOLS,
    ) -> list[Decision]:
        """
        Activate a candidate for horizons (None = all that its manifest names), all of them or none.

        A slot in which the model is active already is left as it is, and its activation is returned.

        Raises:
            Refused: if actor or reason is empty (not recorded), a gate says no, the model is no candidate of a
                slot, or another person's command changed a slot in between (recorded).
            Transient: if a store is away.
        """
        _check_command(model_id, actor, reason)
        dossier = await read_dossier(self._artefacts, model_id, gates=PAPER_GATES)
        slots = _slots(symbol_group, horizons or dossier.horizons)

        def plan(state: dict[Slot, SlotState], now: datetime) -> list[Draft]:
            current = {slot: found.current for slot, found in state.items() if found.current}
            moving = [
                slot for slot in slots
                if slot not in current or (current[slot].model_id, current[slot].stage) != (model_id, stage)
            ]  # fmt: skip
            if not moving:
                return []
            fault = (
                _stage_fault(stage, dossier)
                or dossier.fault
                or _missing_horizons(dossier, slots)
                or _candidate_fault(dossier, state, moving, now)
                or _gate_fault(dossier, now)
            )
            action = Action.REFUSED if fault else Action.ACTIVATED
            return [
                Draft(
                    action, model_id, slot, stage, actor, reason, now, dossier.origin, dossier.evidence,
                    current[slot].model_id if slot in current else None, fault,
                )
                for slot in moving
            ]  # fmt: skip

        await self._append(plan, guarded=slots)
        state = fold(await self._store.decisions())
        return [current for slot in slots if (current := state[slot].current)]

    async def rollback(self, slot: Slot, *, actor: str, reason: str) -> Decision:
        """
        Bring back the model that was active in the slot before the current one.

        Raises:
            Refused: if actor or reason is empty (not recorded), there is no earlier model, or another person's
                command changed the slot in between (recorded).
            Transient: if the store is away.
        """
        _check_words(actor, reason)

        def plan(state: dict[Slot, SlotState], now: datetime) -> list[Draft]:
            found = state.get(slot, SlotState())
            current, before = found.current, found.before
            if current is None or before is None:
                return [Draft(
                    Action.REFUSED, current.model_id if current else "", slot, Stage.PAPER, actor, reason, now,
                    current.origin if current else Origin.SIMULATED,
                    refusal="no_earlier_model: nothing was active before; the kill switch stops new orders",
                )]  # fmt: skip
            return [Draft(
                Action.ROLLED_BACK, before.model_id, slot, before.stage, actor, reason, now, before.origin,
                before.evidence, current.model_id,
            )]  # fmt: skip

        return (await self._append(plan, guarded=(slot,)))[0]

    async def active(self, *, at: datetime | None = None) -> dict[Slot, Decision]:
        """
        Return the activation in force in each slot, now or at an instant (inclusive); empty slots are left out.

        The decision says which model, who activated it, when and on what evidence.
        """
        state = fold(await self._store.decisions(), at=at)
        return {slot: found.current for slot, found in sorted(state.items()) if found.current}

    async def history(self, *, slot: Slot | None = None, model_id: str | None = None) -> list[Decision]:
        """Return all decisions, oldest first, refused ones too, of a slot and of a model where given."""
        return [
            decision
            for decision in await self._store.decisions()
            if (slot is None or decision.slot == slot) and (model_id is None or decision.model_id == model_id)
        ]

    async def _append(self, plan: Plan, *, guarded: Sequence[Slot] = ()) -> list[Decision]:
        """Plan on the current state and store; plan anew when the history grew, but never over another's move."""
        seen: dict[Slot, str | None] | None = None
        for _ in range(_APPEND_TRIES):
            history = await self._store.decisions()
            state = fold(history)
            # The clock of another machine may be ahead; the history never runs backwards.
            now = max(self._now(), history[-1].decided_at) if history else self._now()
            standing = {slot: _standing(state, slot) for slot in guarded}
            drafts = plan(state, now)
            if seen is not None and standing != seen:
                drafts = [_overtaken(draft) for draft in drafts]
            seen = standing
            try:
                stored = await self._store.append(drafts, expected_seq=len(history)) if drafts else []
            except Conflict:
                continue
            refused = [decision for decision in stored if decision.refusal]
            if refused:
                code, _, detail = (refused[0].refusal or "").partition(": ")
                raise Refused(code, detail)
            return stored
        raise Refused("busy", f"the history changed {_APPEND_TRIES} times while this was decided; try again")


def _check_command(model_id: str, actor: str, reason: str) -> None:
    if not is_model_id(model_id):
        raise Refused("bad_model_id", f"expected m and 16 hex digits, received {model_id!r}")
    _check_words(actor, reason)


def _check_words(actor: str, reason: str) -> None:
    if not actor.strip():
        raise Refused("no_actor", "expected the name of the person who decides")
    if not reason.strip():
        raise Refused("no_reason", "expected a reason in the actor's words")


def _slots(symbol_group: str, horizons: Sequence[str]) -> tuple[Slot, ...]:
    try:
        return tuple(Slot(symbol_group, horizon) for horizon in dict.fromkeys(horizons))
    except ValueError as error:
        raise Refused("bad_slot", str(error)) from error


def _missing_horizons(dossier: Dossier, slots: Sequence[Slot]) -> str | None:
    missing = [slot.horizon for slot in slots if slot.horizon not in dossier.horizons]
    return f"horizon_not_served: the model does not serve {missing}" if missing else None


def _stage_fault(stage: Stage, dossier: Dossier) -> str | None:
    if stage is Stage.QUALIFIED:
        faults = [
            "no_qualified_gates: the evidence gates for qualified do not exist yet; they come with a later version"
        ]
        # Said today, and all that is left once there are gates: data that nobody audited qualify nothing.
        unready = readiness_fault(dossier.manifest) if dossier.manifest else None
        return "; ".join([*faults, unready] if unready else faults)
    return None if stage is Stage.PAPER else "bad_stage: a model is registered as candidate, not promoted to it"


def _candidate_fault(
    dossier: Dossier, state: Mapping[Slot, SlotState], slots: Sequence[Slot], now: datetime
) -> str | None:
    for slot in slots:
        candidate = state.get(slot, SlotState()).candidates.get(dossier.model_id)
        if candidate is None:
            return f"not_a_candidate: {dossier.model_id} is not registered for {slot.symbol_group}/{slot.horizon}"
        if candidate.evidence != dossier.evidence:
            return "evidence_changed: the stored evidence is not that of the registration"
        if now - candidate.decided_at > CANDIDATE_AGE_MAX:
            return f"stale: registered at {candidate.decided_at}, more than {CANDIDATE_AGE_MAX.days} days ago"
    return None


def _gate_fault(dossier: Dossier, now: datetime) -> str | None:
    assert dossier.manifest is not None, "a dossier without a fault has a manifest"
    verdicts = [
        evaluate(
            gate, dossier.evidence_files.get(gate), manifest=dossier.manifest, now=now, proof=dossier.proof,
            texts=dossier.texts,
        )
        for gate in PAPER_GATES
    ]  # fmt: skip
    failed = [f"{verdict.gate}: {verdict.reason}" for verdict in verdicts if not verdict.passed]
    return "gate_failed: " + "; ".join(failed) if failed else None


def _standing(state: Mapping[Slot, SlotState], slot: Slot) -> str | None:
    current = state.get(slot, SlotState()).current
    return current.decision_id if current else None


def _overtaken(draft: Draft) -> Draft:
    """Return the refusal of a move whose slot another command changed after this one had looked at it."""
    return Draft(
        Action.REFUSED, draft.model_id, draft.slot, draft.stage, draft.actor, draft.reason, draft.decided_at,
        draft.origin, draft.evidence, draft.previous_model_id,
        draft.refusal or "overtaken: another command changed the slot meanwhile; look again and decide anew",
    )  # fmt: skip
