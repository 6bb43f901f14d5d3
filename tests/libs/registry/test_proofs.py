"""The leakage gate demands a proof: every way in which one can be missing or not stand, and how proofs are kept."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.libs.registry.kit import (
    FEATURES,
    NOW,
    PROOF,
    REFERENCE,
    SIGNATURE,
    SOURCE,
    files_of,
    manifest_of,
    proof_of,
    put_model,
)

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_quant.align import lag, rolling
from qraft_quant.proof.everything import PROVEN_SOURCES
from qraft_quant.proof.subjects import OHLCV, ProvenFeatures
from qraft_registry.artefacts import ProofReference, artefact_key, evidence_file, sha256_hex
from qraft_registry.gates import evaluate
from qraft_registry.memory import MemoryRegistryStore
from qraft_registry.proof_record import ProvenColumn, encode_proof
from qraft_registry.proof_rules import CONTROLS_REQUIRED, shortfall
from qraft_registry.proofs import digest_of_sources, find_proof, load_proof, proof_key, save_proof
from qraft_registry.proving import ensure_proof, proof_excerpt, prove_features, proven_source
from qraft_registry.registry import Registry
from qraft_store.artefacts.memory import MemoryArtefactStore
from qraft_store.bars.port import BarPanel

MODEL = b"a model"


def judge(data: bytes | None, *, reference: ProofReference | None = REFERENCE, **manifest: Any) -> str | None:
    """Return the leakage gate's reason for a proof as stored, None if it passes."""
    files = files_of(MODEL, leakage={"proof": reference})
    found = manifest_of(MODEL, files, **manifest)
    return evaluate("leakage", files[evidence_file("leakage")], manifest=found, now=NOW, proof=data).reason


def judge_record(**changes: Any) -> str | None:
    record = proof_of(**changes)
    data = encode_proof(record)
    return judge(data, reference=ProofReference(proof_key(record), sha256_hex(data)))


def test_proof_of_the_same_features_and_code_passes() -> None:
    assert judge(PROOF) is None
    assert judge_record() is None


@pytest.mark.parametrize(
    ("reason", "data", "changes"),
    [
        ("no_proof", PROOF, {"reference": None}),
        ("missing_proof", None, {}),
        ("missing_proof", b"", {}),
        ("proof_changed", PROOF + b" ", {}),
        ("proof_of_other_features", PROOF, {"feature_signature": "another"}),
        ("proof_of_other_code", PROOF, {"feature_source_sha256": "6" * 64}),
        ("proof_of_other_code", PROOF, {"feature_source_sha256": ""}),
        ("no_feature_names", PROOF, {"feature_names": ()}),
        ("incomplete_proof", PROOF, {"feature_names": (*FEATURES, "not_proven")}),
    ],
)
def test_proof_that_is_not_the_models_is_refused(reason: str, data: bytes | None, changes: dict[str, Any]) -> None:
    found = judge(data, **changes)

    assert found is not None and found.startswith(reason)


def _without(name: str) -> Any:
    return tuple(control for control in proof_of().controls if control.name != name)


def _control(name: str, **changes: Any) -> Any:
    return tuple(
        msgspec.structs.replace(control, **changes) if control.name == name else control
        for control in proof_of().controls
    )


def _column(name: str, **changes: Any) -> Any:
    return tuple(
        msgspec.structs.replace(column, **changes) if column.name == name else column for column in proof_of().columns
    )


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("unknown_proof", {"format": "proof/9"}),
        ("simulated_proof", {"data": {"origin": Origin.SIMULATED}}),
        ("thin_proof", {"cut_offs_us": (1, 2)}),
        ("thin_proof", {"cut_offs_us": (1, 1, 1)}),
        ("thin_proof", {"starts": ()}),
        ("thin_proof", {"corruptions": ("nan", "shuffle")}),
        ("incomplete_proof", {"columns": ()}),
        *(
            ("incomplete_proof", {"columns": tuple(c for c in proof_of().columns if c.kind != kind)})
            for kind in ("label", "join", "normalizer", "resample", "text_bucket", "lag", "warm_up")
        ),
        ("incomplete_proof", {"columns": proof_of().columns[1:]}),
        ("incomplete_proof", {"columns": proof_of().columns[:3] + proof_of().columns[4:]}),
        ("proof_without_controls", {"controls": ()}),
        *(("proof_without_controls", {"controls": _without(name)}) for name in CONTROLS_REQUIRED),
        *(
            ("proof_control_missed", {"controls": _control(name, caught_by=())})
            for name, is_leak in CONTROLS_REQUIRED.items()
            if is_leak
        ),
        # A proof may not call a planted leak honest to get round it, nor find leaks everywhere.
        ("proof_control_missed", {"controls": _control("shift(-1)", caught_by=(), is_leak=False)}),
        ("proof_control_missed", {"controls": _control("expanding mean", caught_by=("nan",))}),
        ("proof_control_missed", {"controls": _control("last value", n_checks=0)}),
        ("proof_failed", {"columns": _column("return_1", failures=("nan after 3",))}),
        ("proof_failed", {"columns": _column("a join", failures=("noise after 3",))}),
        ("proof_failed", {"columns": _column("volatility_48", n_checks=0)}),
        ("proof_failed", {"columns": (*proof_of().columns, ProvenColumn("feature", "more", 8, 1, ()))}),
    ],
)
def test_proof_that_does_not_stand_is_refused_with_its_reason(reason: str, changes: dict[str, Any]) -> None:
    found = judge_record(**changes)

    assert found is not None and found.startswith(reason)


@pytest.mark.parametrize("data", [b"{}", b"null", b"\xff\xfe", b"[1]"])
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    found = judge(data, reference=ProofReference(REFERENCE.key, sha256_hex(data)))

    assert found is not None and found.startswith("undecodable_proof")


async def _promote(artefacts: MemoryArtefactStore, model_id: str) -> None:
    registry = Registry(store=MemoryRegistryStore(), artefacts=artefacts, now=lambda: NOW)
    await registry.register_candidate(model_id, actor="ann", reason="new")
    await registry.promote(model_id, actor="ann", reason="good")


async def test_registry_promotes_a_model_with_a_proof_and_refuses_the_others() -> None:
    artefacts = MemoryArtefactStore()
    await _promote(artefacts, await put_model(artefacts, b"with"))

    for model, changes in (
        (b"without", {"evidence": {"leakage": {"proof": None}}}),
        (b"elsewhere", {"evidence": {"leakage": {"proof": ProofReference("models/x/proof.json", "0" * 64)}}}),
        (b"no path", {"evidence": {"leakage": {"proof": ProofReference("proofs/../../x", "0" * 64)}}}),
        (b"lost", {"evidence": {"leakage": {"proof": ProofReference("proofs/a/b.json", REFERENCE.sha256)}}}),
        (b"bad", {"proof": proof_of(controls=())}),
    ):
        model_id = await put_model(artefacts, model, **changes)
        with pytest.raises(Refused, match=r"leakage: (no_proof|missing_proof|proof_without_controls)"):
            await _promote(artefacts, model_id)


async def test_proof_is_part_of_the_evidence_that_a_registration_pins() -> None:
    artefacts = MemoryArtefactStore()
    model_id = await put_model(artefacts, b"m")
    registry = Registry(store=MemoryRegistryStore(), artefacts=artefacts, now=lambda: NOW)

    decisions = await registry.register_candidate(model_id, actor="ann", reason="new")

    assert decisions[0].evidence["proof"] == sha256_hex(PROOF)
    assert await artefacts.get(artefact_key(model_id, "manifest.json"))


async def test_stored_proof_is_found_again_by_features_and_code_alone() -> None:
    artefacts = MemoryArtefactStore()
    reference = await save_proof(artefacts, proof_of())
    assert reference == REFERENCE == await save_proof(artefacts, proof_of())
    asked = {"feature_signature": SIGNATURE, "source_sha256": SOURCE, "feature_names": FEATURES}

    assert await find_proof(artefacts, **asked, origin=Origin.REPLAY) == reference
    assert await load_proof(artefacts, reference) == proof_of()
    for changes in ({"feature_signature": "x"}, {"source_sha256": "6" * 64}, {"feature_names": (*FEATURES, "new")}):
        assert await find_proof(artefacts, **{**asked, **changes}, origin=Origin.REPLAY) is None


async def test_failed_and_simulated_proofs_stand_in_nobodys_way() -> None:
    artefacts = MemoryArtefactStore()
    asked = {"feature_signature": SIGNATURE, "source_sha256": SOURCE, "feature_names": FEATURES}
    await save_proof(artefacts, proof_of(controls=()))
    simulated = await save_proof(artefacts, proof_of(data={"origin": Origin.SIMULATED}))

    assert await find_proof(artefacts, **asked, origin=Origin.REPLAY) is None
    assert await find_proof(artefacts, **asked, origin=Origin.SIMULATED) == simulated
    sound = await save_proof(artefacts, proof_of())
    assert await find_proof(artefacts, **asked, origin=Origin.REPLAY) == sound


def test_digest_changes_with_every_byte_and_name_of_the_source(tmp_path, monkeypatch) -> None:
    package = tmp_path / "some_package"
    (package / "part" / "deep").mkdir(parents=True)
    for name in ("__init__.py", "one.py", "other.py", "part/a.py", "part/deep/b.py"):
        (package / name).write_text("x = 1\n")
    (package / "part" / "notes.txt").write_text("no source")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    digests = [digest_of_sources("some_package", ("part", "one.py"))]

    assert digest_of_sources("some_package", ("one.py", "part")) == digests[0]
    for change in (
        lambda: (package / "part" / "notes.txt").write_text("still none"),
        lambda: (package / "other.py").write_text("x = 2\n"),
    ):
        change()
        assert digest_of_sources("some_package", ("part", "one.py")) == digests[0]
    for change in (
        lambda: (package / "part" / "deep" / "b.py").write_text("x = 2\n"),
        lambda: (package / "part" / "a.py").rename(package / "part" / "c.py"),
        lambda: (package / "one.py").write_text(""),
    ):
        change()
        digests.append(digest_of_sources("some_package", ("part", "one.py")))
    assert len(set(digests)) == 4
    with pytest.raises(FileNotFoundError, match="absent"):
        digest_of_sources("some_package", ("absent",))
    sys.modules.pop("some_package", None)


def test_digest_covers_the_engine_the_aligner_the_proof_and_the_labels() -> None:
    assert set(PROVEN_SOURCES) == {"features", "align", "derived", "proof", "labels.py"}
    assert len(proven_source()) == 64


@pytest.fixture(scope="module")
def features() -> ProvenFeatures:
    """Two features that need no engine; tests/libs/quant proves the registered ones."""

    def compute(inputs: Any, _: int) -> Any:
        log_close = np.log(inputs["close"])
        returns = log_close - lag(log_close, 1)
        return np.stack([returns, rolling(returns, 23, np.std)], axis=2).astype(np.float32)

    return ProvenFeatures(FEATURES, SIGNATURE, OHLCV, 24, compute)


@pytest.fixture(scope="module")
def bars() -> BarPanel:
    rng = np.random.default_rng(4)
    n = 4_800
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, (n, 3)), axis=0))
    spread = np.exp(rng.exponential(1e-3, close.shape))
    volume = rng.lognormal(3, 1, close.shape)
    closed_at = (np.arange(n) * 300_000_000 + 1_735_689_900_000_000).astype("datetime64[us]")
    return BarPanel(
        "crypto", "5m", Origin.REPLAY, ("A", "B", "C"), closed_at, close, close * spread, close / spread, close, volume
    )


async def test_proof_is_made_once_stands_and_has_the_same_bytes_again(bars: BarPanel, features: ProvenFeatures) -> None:
    artefacts = MemoryArtefactStore()

    first, made = await ensure_proof(artefacts, bars, features, seed=7)
    second, found = await ensure_proof(artefacts, bars, features, seed=7)

    assert made is not None and found is None and first == second
    assert shortfall(made, feature_names=features.names) is None
    assert first.key == f"proofs/{features.signature}/{proven_source()[:16]}-{first.sha256[:16]}.json"
    assert await artefacts.get(first.key) == encode_proof(prove_features(bars, features, seed=7))
    assert made.data.origin is Origin.REPLAY and made.data.symbols == ("A", "B", "C")
    # Every control that the registry asks for is one that the proof runs.
    assert {control.name for control in made.controls} >= set(CONTROLS_REQUIRED)


def test_excerpt_is_the_newest_stretch_in_which_two_symbols_have_the_fewest_gaps(bars: BarPanel) -> None:
    holed = dataclasses.replace(bars, close=bars.close.copy())
    holed.close[4_500, :2] = np.nan
    holed.close[2_000, 2] = np.nan

    whole, moved = proof_excerpt(bars, n_bars=1_000), proof_excerpt(holed, n_bars=1_000)

    assert whole.closed_at[-1] == bars.closed_at[-1] and whole.close.shape == (1_000, 3)
    assert moved.closed_at[-1] == bars.closed_at[-1 - 2 * 288]
    assert np.isfinite(moved.close).all()
    late = dataclasses.replace(bars, close=np.where(np.arange(len(bars.close))[:, None] < 4_000, np.nan, bars.close))
    assert proof_excerpt(late, n_bars=1_000).closed_at[0] == bars.closed_at[4_000]


def test_features_are_proven_across_an_outage_of_all_symbols(bars: BarPanel, features: ProvenFeatures) -> None:
    values = {name: getattr(bars, name).copy() for name in OHLCV}
    for array in values.values():
        array[::900] = np.nan

    record = prove_features(dataclasses.replace(bars, **values), features, seed=7)

    assert shortfall(record, feature_names=features.names) is None


def test_state_that_is_known_is_proven_as_it_is_and_what_is_hardly_known_is_drawn(
    bars: BarPanel, features: ProvenFeatures
) -> None:
    def compute(inputs: Any, first_index: int) -> Any:
        funding = lag(inputs["funding_rate"], 1).astype(np.float32)[:, :, None]
        return np.concatenate([features.compute(inputs, first_index), funding], axis=2)

    names = (*FEATURES, "funding_before")
    reading = ProvenFeatures(names, SIGNATURE, (*OHLCV, "funding_rate"), 24, compute)
    known = np.random.default_rng(5).normal(1e-4, 1e-4, bars.close.shape)
    hardly = np.where(np.arange(len(known))[:, None] < len(known) - 100, np.nan, known)

    records = {
        name: prove_features(bars, reading, seed=7, state={"funding_rate": values} if values is not None else None)
        for name, values in (("none", None), ("known", known), ("hardly", hardly))
    }

    assert {name: record.data.stimulated for name, record in records.items()} == {
        "none": ("funding_rate",), "known": (), "hardly": ("funding_rate",),
    }  # fmt: skip
    assert all(shortfall(record, feature_names=names) is None for record in records.values())
    assert records["known"].data.sha256 != records["none"].data.sha256 == records["hardly"].data.sha256


def test_bars_too_few_for_a_proof_are_refused(bars: BarPanel, features: ProvenFeatures) -> None:
    short = dataclasses.replace(
        bars, closed_at=bars.closed_at[:200],
        **{name: getattr(bars, name)[:200] for name in ("open", "high", "low", "close", "volume")},
    )  # fmt: skip

    with pytest.raises(ValueError, match="received 200"):
        prove_features(short, features, seed=7)
