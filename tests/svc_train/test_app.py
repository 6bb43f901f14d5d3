"""The whole job on real servers: bars out of the lake, a candidate in the registry, messages on the stream."""

import asyncio
import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import nats
import numpy as np
import pytest
from tests.svc_train.kit import batches_of

from qraft_contracts.codec import decode
from qraft_contracts.models import ModelDecision
from qraft_contracts.origin import Origin
from qraft_contracts.usage import ComputeUsage
from qraft_registry.memory import MemoryRegistryStore
from qraft_registry.registry import Registry
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.bars.lake import ParquetLake
from svc_train.app import EXIT_REFUSED, build, main
from svc_train.domain.manifest import instant_of
from svc_train.settings import TrainSettings

HORIZONS = ("1h", "4h")


@pytest.fixture
def home(tmp_path, real_bars, slice_of):
    """A QRAFT_HOME whose lake holds 6,500 real bars."""
    lake = ParquetLake(tmp_path / "lake")
    lake.append(list(batches_of(slice_of(real_bars, 0, 6_500))))
    lake.close()
    return tmp_path


@pytest.fixture
def settings():
    """Train on the first 6,000 bars only."""
    return TrainSettings(
        until=datetime(2025, 1, 20, 20, 0, tzinfo=UTC), horizons=HORIZONS, n_trees=4, actor="demo", reason="first model"
    )


def events(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.data
@pytest.mark.nats
@pytest.mark.postgres
def test_job_stores_a_model_and_registers_it_once(home, settings, nats_url, postgres_dsn):
    common = CommonSettings(home=home, nats_url=nats_url, postgres_dsn=postgres_dsn)
    stdout = io.StringIO()

    first = build(settings, common, clock=SystemClock(), stdout=stdout).run()
    second = build(settings, common, clock=SystemClock(), stdout=stdout).run()

    assert first == second
    finished = [event for event in events(stdout) if event["event"] == "train.finished"]
    assert (
        finished == [{"event": "train.finished", "model_id": first, "origin": "replay", "horizons": list(HORIZONS)}] * 2
    )
    folder = home / "artefacts" / "models" / first
    evidence = json.loads((folder / "evidence" / "leakage.json").read_text())
    # Both runs rest on one proof.
    (proof,) = (home / "artefacts").glob("proofs/*/*.json")
    assert evidence["proof"]["key"] == str(proof.relative_to(home / "artefacts"))
    assert evidence["proof"]["sha256"] == hashlib.sha256(proof.read_bytes()).hexdigest()
    assert json.loads((folder / "manifest.json").read_text())["trained_until"] == "2025-01-20T20:00:00Z"
    assert len(list(folder.glob("runs/*/run_log.json"))) == 2
    snapshot_id = evidence_names_the_snapshot(home, folder)
    assert asyncio.run(_promoted(common, first)) == set(HORIZONS)
    decisions = asyncio.run(_candidates(nats_url))
    assert [(found.model_id, found.horizon, found.action, found.actor) for found in decisions] == [
        (first, horizon, "candidate", "demo") for horizon in HORIZONS
    ]
    assert {found.origin for found in decisions} == {Origin.REPLAY}
    assert {found.evidence["snapshot"] for found in decisions} == {snapshot_id}
    told = [decode(data, ComputeUsage) for data in asyncio.run(_stored(nats_url, "usage.compute"))]
    assert len({usage.usage_id for usage in told}) == len(told) == 2
    assert {(usage.column, usage.purpose, usage.origin) for usage in told} == {
        ("training", "first model", Origin.REPLAY)
    }
    assert all(
        usage.cpu_ms > 0 and usage.n_bytes > 10_000 and "4 trees a head" in usage.stop_condition for usage in told
    )


def evidence_names_the_snapshot(home, folder):
    """Return the one snapshot that both runs rest on, named by manifest, proof and every evidence."""
    (record,) = (home / "artefacts").glob("snapshots/*/snapshot_meta.json")
    (proof,) = (home / "artefacts").glob("proofs/*/*.json")
    manifest = json.loads((folder / "manifest.json").read_text())
    snapshot_id = manifest["data"]["snapshot_id"]
    assert record.parent.name == snapshot_id == json.loads(proof.read_text())["data"]["snapshot_id"]
    assert manifest["data"]["snapshot_sha256"] == hashlib.sha256(record.read_bytes()).hexdigest()
    inputs = [json.loads(path.read_text())["inputs"] for path in folder.glob("evidence/*.json")]
    assert len(inputs) == 4 and all(given[f"snapshots/{snapshot_id}"] == "replay" for given in inputs)
    return snapshot_id


async def _promoted(common, model_id):
    """Promote what the job stored, in a registry of its own: every gate must pass, the leakage proof's too."""
    artefacts = ObjectArtefactStore(common.artefacts)
    registry = Registry(store=MemoryRegistryStore(), artefacts=artefacts, now=SystemClock().now)
    await registry.register_candidate(model_id, actor="ann", reason="new")
    return {decision.slot.horizon for decision in await registry.promote(model_id, actor="ann", reason="gates pass")}


async def _candidates(url):
    return [decode(data, ModelDecision) for data in await _stored(url, "models.candidate")]


async def _stored(url, subject):
    client = await nats.connect(url)
    jetstream = client.jetstream()
    stream = await jetstream.find_stream_name_by_subject(subject)
    info = await jetstream.stream_info(stream)
    found = [await jetstream.get_msg(stream, seq) for seq in range(1, info.state.messages + 1)]
    await client.close()
    return [message.data for message in found]


@pytest.mark.data
def test_model_is_stored_when_the_registry_is_away(home, settings):
    away = CommonSettings(home=home, postgres_dsn="postgresql://127.0.0.1:1/qraft")

    with pytest.raises(OSError, match="1"):
        build(settings, away, clock=SystemClock(), stdout=io.StringIO()).run()

    assert len(list(home.glob("artefacts/models/*/manifest.json"))) == 1


@pytest.mark.data
def test_bars_after_the_end_of_training_change_nothing(home, settings, real_bars, slice_of, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    lake = ParquetLake(other / "lake")
    bars = slice_of(real_bars, 0, 6_500)
    later = dataclasses.replace(bars, close=bars.close.copy(), high=bars.high.copy())
    later.close[6_000:] *= 1.3
    later.high[6_000:] *= 1.4
    lake.append(list(batches_of(later)))
    lake.close()
    alone = settings.model_copy(update={"register_candidate": False})

    ids = [
        build(alone, CommonSettings(home=folder), clock=SystemClock(), stdout=io.StringIO()).run()
        for folder in (home, other)
    ]

    assert ids[0] == ids[1]
    models = [folder / "artefacts" / "models" / ids[0] for folder in (home, other)]
    forecasts = [(model / "oof.parquet").read_bytes() for model in models]
    assert forecasts[0] == forecasts[1]
    data = [json.loads((model / "manifest.json").read_text())["data"] for model in models]
    assert data[0]["sha256"] == data[1]["sha256"]
    # The snapshots differ in nothing but the version of the lake that they name.
    assert data[0]["snapshot_id"] != data[1]["snapshot_id"]


@pytest.mark.data
def test_range_without_bars_is_refused_with_what_is_stored(home, settings):
    early = settings.model_copy(update={"until": datetime(2024, 1, 1, tzinfo=UTC)})
    job = build(early, CommonSettings(home=home), clock=SystemClock(), stdout=io.StringIO())

    with pytest.raises(ValueError, match=r"stored are 2024-12-31T00:05:00Z to .*QRAFT_TRAIN_UNTIL"):
        job.run()


def test_process_without_bars_says_what_to_do_and_exits_with_2(tmp_path):
    environment = {**os.environ, "QRAFT_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(
        [sys.executable, "-m", "svc_train"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 2, done.stderr
    line = json.loads(done.stderr.splitlines()[-1])
    assert line["event"] == "train.refused"
    assert "crypto 5m bars" in line["reason"] and "svc_ingest" in line["reason"]


def test_real_grid_of_the_fixture_ends_where_the_settings_say(real_bars):
    assert instant_of(real_bars.closed_at[5_999]) == datetime(2025, 1, 20, 20, 0, tzinfo=UTC)
    assert np.isfinite(real_bars.close).all()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("QRAFT_FEATURES_SET", "best", "bad_feature_set: QRAFT_FEATURES_SET: expected a feature set out of core, full"),
        ("QRAFT_FEATURES_SET", "mine.toml", "bad_feature_set: QRAFT_FEATURES_SET: expected a file with features at"),
        ("QRAFT_INTERVAL", "7m", "expected an interval out of"),
        ("QRAFT_TRAIN_MODE", "prod", "bad_settings: QRAFT_TRAIN_MODE: Input should be 'line', 'production' or 'full'"),
        ("QRAFT_HTTP_PORT", "x", "bad_settings: QRAFT_HTTP_PORT: Input should be a valid integer"),
    ],
)
def test_mistyped_setting_ends_with_one_line_and_the_exit_code_of_a_refusal(
    monkeypatch, tmp_path, capsys, variable, value, said
):
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path))
    monkeypatch.setenv(variable, value)

    assert main() == EXIT_REFUSED
    printed = capsys.readouterr()
    assert not printed.out and len(printed.err.splitlines()) == 1 and said in printed.err
    assert "train.refused" in printed.err
