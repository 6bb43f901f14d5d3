"""Every way in which evidence can fail a gate, and the one way in which it passes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.libs.registry.kit import NOW, PROOF, SNAPSHOT_ID, TRAINED_UNTIL, evidence_of, files_of, manifest_of

from qraft_contracts.origin import Origin
from qraft_registry.artefacts import Manifest, TrainedOn, evidence_file, snapshot_input
from qraft_registry.gates import PAPER_GATES, evaluate

MODEL = b"a model"
REAL_FIELDS = {"origin": Origin.REAL, "inputs": {snapshot_input(SNAPSHOT_ID): Origin.REAL}}


def judge(_gate: str, /, *, manifest: dict[str, Any] | None = None, now: datetime = NOW, **evidence: Any) -> str | None:
    files = files_of(MODEL, **{_gate: evidence})
    found = manifest_of(MODEL, files, **(manifest or {}))
    return evaluate(_gate, files[evidence_file(_gate)], manifest=found, now=now, proof=PROOF).reason


@pytest.mark.parametrize("gate", PAPER_GATES)
def test_sound_evidence_passes(gate: str) -> None:
    assert judge(gate) is None


@pytest.mark.parametrize("gate", PAPER_GATES)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "evidence/9"}, "unknown_format"),
        ({"gate": "profit"}, "wrong_gate"),
        ({"model_id": "m" + "0" * 16}, "other_model"),
        ({"model_sha256": "0" * 64}, "other_model"),
        ({"data_until": TRAINED_UNTIL - timedelta(days=1)}, "stale"),
        ({"data_until": TRAINED_UNTIL.replace(tzinfo=None)}, "stale"),
        ({"origin": Origin.SIMULATED}, "simulated_origin"),
        ({"inputs": {"bars": Origin.REPLAY, "posts": Origin.SIMULATED}}, "simulated_origin"),
        ({"origin": Origin.REAL}, "origin_mismatch"),
        ({"n_checks": 0}, "too_few_checks"),
        ({"n_checks": -5}, "too_few_checks"),
        ({"n_failed": 1}, "failed"),
        ({"failures": ("BTC at 2025-01-01",)}, "failed"),
    ],
)
def test_unsound_evidence_is_refused_with_its_reason(gate: str, changes: dict[str, Any], reason: str) -> None:
    # `data_until` real and old is judged before provenance; keep the data recent so that only one thing is wrong.
    found = judge(gate, now=TRAINED_UNTIL + timedelta(days=1), **changes)

    assert found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    ("gate", "changes"),
    [
        ("leakage", {"n_checks": 8}),
        ("parity", {"n_checks": 999}),
        ("parity", {"measures": {}}),
        ("parity", {"measures": {"error_max": 1.1e-5}}),
        ("parity", {"measures": {"error_max": -1.0}}),
        ("data_quality", {"measures": {"n_rows": 999.0, "missing_frac": 0.0, "invalid_frac": 0.0}}),
        ("data_quality", {"measures": {"n_rows": 5e4, "missing_frac": 0.051, "invalid_frac": 0.0}}),
        ("data_quality", {"measures": {"n_rows": 5e4, "missing_frac": 0.0, "invalid_frac": 0.0011}}),
        ("data_quality", {"measures": {"n_rows": 5e4, "missing_frac": 0.0}}),
        ("origin", {"inputs": {}}),
    ],
)
def test_evidence_beyond_a_threshold_is_refused(gate: str, changes: dict[str, Any]) -> None:
    assert judge(gate, **changes) is not None


def test_simulated_model_is_refused_by_every_gate() -> None:
    simulated = {"origin": Origin.SIMULATED}

    reasons = [judge(gate, manifest=simulated, **simulated) for gate in PAPER_GATES]

    assert all(reason and reason.startswith("simulated_origin") for reason in reasons)


@pytest.mark.parametrize(("age_days", "passes"), [(30, True), (31, False)])
def test_real_data_age_out(age_days: int, passes: bool) -> None:
    now = TRAINED_UNTIL + timedelta(days=age_days)

    reason = judge("leakage", manifest={"origin": Origin.REAL}, now=now, **REAL_FIELDS)

    assert (reason is None) is passes


def test_data_from_the_future_are_refused() -> None:
    reason = judge("leakage", now=TRAINED_UNTIL - timedelta(seconds=1))

    assert reason is not None and reason.startswith("future_data")


@pytest.mark.parametrize(
    ("data", "reason"), [(None, "missing"), (b"", "missing"), (b"{}", "hash_mismatch"), (b"\xff", "hash_mismatch")]
)
def test_missing_empty_and_changed_files_are_refused(data: bytes | None, reason: str) -> None:
    verdict = evaluate("parity", data, manifest=manifest_of(MODEL, files_of(MODEL)), now=NOW)

    assert not verdict.passed and verdict.reason is not None and verdict.reason.startswith(reason)


@pytest.mark.parametrize("data", [b"[]", b"{}", b"\xff\xfe", b'{"format": "evidence/1"}', b"null"])
def test_undecodable_evidence_is_refused(data: bytes) -> None:
    manifest = manifest_of(MODEL, {evidence_file("parity"): data})

    verdict = evaluate("parity", data, manifest=manifest, now=NOW)

    assert verdict.reason is not None and verdict.reason.startswith("undecodable")


def test_nan_measure_is_refused() -> None:
    # JSON has no NaN: msgspec writes null, which is no number either.
    data = msgspec.json.encode(evidence_of("parity", MODEL, measures={"error_max": math.nan}))
    manifest = manifest_of(MODEL, {evidence_file("parity"): data})

    assert not evaluate("parity", data, manifest=manifest, now=datetime(2026, 1, 1, tzinfo=UTC)).passed


@pytest.mark.parametrize("origin", [Origin.REAL, Origin.REPLAY])
def test_model_of_a_market_s_data_without_a_snapshot_does_not_pass_the_gate_of_the_data(origin: Origin) -> None:
    now = TRAINED_UNTIL + timedelta(days=1)
    inputs = {"bars/crypto/5m/sha256": origin}

    manifest = {"origin": origin, "data": TrainedOn()}

    reason = judge("data_quality", manifest=manifest, now=now, origin=origin, inputs=inputs)

    assert reason is not None and reason.startswith("no_snapshot: ") and reason.endswith("train anew")


def test_evidence_about_other_data_than_the_model_s_is_refused() -> None:
    other = {snapshot_input("b2" * 32): Origin.REPLAY}

    reason = judge("data_quality", inputs=other)

    assert reason is not None and reason.startswith("other_data: ")


def test_manifest_of_before_snapshots_is_readable_and_says_unknown() -> None:
    now = msgspec.json.decode(msgspec.json.encode(manifest_of(MODEL, {})))
    old = msgspec.json.encode({name: value for name, value in now.items() if name not in ("data", "readiness")})
    with_bars = msgspec.json.encode(now | {"data": {"market": "crypto", "n_rows": 5, "sha256": "0"}})

    for data in (old, with_bars):
        found = msgspec.json.decode(data, type=Manifest)
        assert found.data.snapshot_id == ""
        assert (found.readiness.mode, found.readiness.verdict) == ("unknown", "unknown")
