import dataclasses
import hashlib
import io
import json
from datetime import UTC, datetime

import msgspec
import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest
from tests.svc_train.kit import SNAPSHOT, data_of

from qraft_contracts.origin import Origin
from qraft_quant.features import CORE
from qraft_registry.artefacts import Manifest
from qraft_registry.gates import PAPER_GATES, evaluate
from svc_train.domain.parity import TOLERANCE, scaled_errors

pytestmark = pytest.mark.data

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HORIZONS = ("1h", "4h", "1d", "7d")


@pytest.fixture(scope="module")
def trained_short(real_bars, make_trainer, slice_of):
    """Two horizons on the first 6,000 bars."""
    return make_trainer(horizons=("1h", "4h")).train(data_of(slice_of(real_bars, 0, 6_000)))


@pytest.fixture
def manifest(packed):
    return msgspec.json.decode(packed[1]["manifest.json"], type=Manifest)


@pytest.mark.parametrize("gate", PAPER_GATES)
def test_evidence_of_a_replayed_model_passes_every_gate(packed, manifest, proof, gate):
    verdict = evaluate(
        gate,
        packed[1][f"evidence/{gate}.json"],
        manifest=manifest,
        now=datetime(2026, 1, 1, tzinfo=UTC),
        proof=proof[1],
    )

    assert verdict.reason is None


def test_same_bars_and_seed_give_the_same_bytes_for_any_number_of_threads(real_bars, make_trainer, packed, pack_proven):
    again = make_trainer(n_threads=1)
    one_thread = again.train(data_of(real_bars))
    # The number of threads is part of the recorded recipe, so the manifest is compared under the first recipe.
    model_id, files = pack_proven(
        dataclasses.replace(one_thread, run_id=json.loads(packed[1]["manifest.json"])["run_id"]), make_trainer()
    )

    assert model_id == packed[0]
    assert {path for path in files if files[path] != packed[1][path]} == set()


def test_another_seed_gives_another_model(real_bars, make_trainer, slice_of, trained_short):
    other = make_trainer(seed=8, horizons=("1h", "4h")).train(data_of(slice_of(real_bars, 0, 6_000)))

    assert other.graph != trained_short.graph
    assert other.run_id != trained_short.run_id


def test_model_id_is_the_hash_of_the_graph_and_the_manifest_names_every_file(packed, manifest):
    model_id, files = packed

    assert model_id == manifest.model_id == "m" + hashlib.sha256(files["model.onnx"]).hexdigest()[:16]
    assert manifest.files == {
        path: hashlib.sha256(data).hexdigest() for path, data in files.items() if path != "manifest.json"
    }
    assert list(files)[-1] == "manifest.json"


def test_manifest_records_the_whole_recipe(packed, real_bars):
    manifest = json.loads(packed[1]["manifest.json"])

    assert manifest["horizons"] == list(HORIZONS)
    assert manifest["feature_names"] == list(CORE.names)
    assert manifest["feature_signature"] == CORE.signature("5m")
    assert manifest["trained_until"] == "2025-02-10T16:00:00Z"
    assert manifest["costs"]["slippage_short_bps"] == 18.0
    assert manifest["data"]["symbols"] == list(real_bars.symbols)
    assert manifest["data"]["n_rows"] == real_bars.close.size
    assert manifest["data"]["snapshot_id"] == SNAPSHOT
    assert (manifest["readiness"]["mode"], manifest["readiness"]["verdict"]) == ("line", "not_asked")
    assert len(manifest["folds"]) == 12
    assert {report["bucket"] for report in manifest["reports"]} <= {"trend", "mean_reversion"}
    for report in manifest["reports"]:
        assert (report["bucket"] == "mean_reversion") == (report["bucket_correlation"] < 0)
        assert sum(bucket["n"] for bucket in report["calibration"]) == report["n"] > 0


def test_no_training_label_reaches_its_test_and_none_reaches_past_the_end(packed):
    for fold in json.loads(packed[1]["manifest.json"])["folds"]:
        last, test_first = (datetime.fromisoformat(fold[name]) for name in ("train_last", "test_first"))
        gap_bars = (test_first - last).total_seconds() / 300
        assert gap_bars == fold["purge_bars"] + fold["embargo_bars"] + 1


def test_forecasts_do_not_change_with_the_bars_after_their_fold(real_bars, make_trainer, slice_of, trained_short):
    short = slice_of(real_bars, 0, 6_000)
    noisy_end = dataclasses.replace(short, close=short.close.copy(), high=short.high * 1.5)
    noisy_end.close[5_000:] *= 1.2
    noisy_end.high[:5_000] = short.high[:5_000]

    clean, dirty = trained_short, make_trainer(horizons=("1h", "4h")).train(data_of(noisy_end))

    for horizon in ("1h", "4h"):
        own, other = clean.forecasts[horizon], dirty.forecasts[horizon]
        before = (own.fold < 2) & (own.bar < 5_000)
        assert before.sum() > 1_000
        assert np.array_equal(own.gross[before], other.gross[before])
        assert np.array_equal(clean.confidence[horizon][before], dirty.confidence[horizon][before])


def test_graph_equals_the_native_model_on_real_rows_and_around_every_threshold(packed):
    vectors = np.load(io.BytesIO(packed[1]["test_vectors.npz"]))
    session = ort.InferenceSession(packed[1]["model.onnx"])

    received = session.run(["y"], {"x": vectors["x"]})[0]

    assert vectors["x"].dtype == np.float32 and received.shape == (vectors["x"].shape[0], 12)
    assert vectors["x"].shape[0] > 1_500
    assert scaled_errors(vectors["expected"], received).max() <= TOLERANCE


@pytest.mark.parametrize("n_rows", [0, 1, 7])
def test_graph_answers_any_number_of_rows_with_the_same_values(packed, n_rows):
    x = np.load(io.BytesIO(packed[1]["test_vectors.npz"]))["x"]
    # One thread: with more, onnxruntime splits a short batch over the trees and adds up in another order.
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(packed[1]["model.onnx"], options)

    y = session.run(["y"], {"x": x[:n_rows]})[0]

    assert y.shape == (n_rows, 12)
    assert np.array_equal(y, session.run(["y"], {"x": x})[0][:n_rows])


def test_outputs_are_returns_probabilities_and_volatilities(trained):
    gross, confidence, volatility = (trained.expected[:, i::3] for i in range(3))

    assert np.abs(gross).max() < 0.5
    assert confidence.min() > 0.0 and confidence.max() < 1.0
    assert volatility.min() > 0.0 and (np.median(volatility, axis=0)[1:] > np.median(volatility, axis=0)[:-1]).all()


def test_graph_carries_the_contract_that_inference_checks(packed):
    session = ort.InferenceSession(packed[1]["model.onnx"])
    metadata = session.get_modelmeta().custom_metadata_map

    assert metadata["feature_signature"] == CORE.signature("5m")
    assert json.loads(metadata["feature_names"]) == list(CORE.names)
    assert (metadata["origin"], metadata["trained_until"]) == ("replay", "2025-02-10T16:00:00Z")
    assert json.loads(metadata["horizons"]) == list(HORIZONS)
    assert json.loads(metadata["costs"])["1h"] == pytest.approx(0.0047)
    assert set(json.loads(metadata["buckets"])) == set(HORIZONS)
    assert session.get_inputs()[0].shape[1] == len(CORE.names)


def test_out_of_fold_file_holds_every_tested_bar_once(packed, trained):
    table = pq.read_table(io.BytesIO(packed[1]["oof.parquet"]))

    assert table.column_names == ["as_of", "symbol", "horizon", "expected_return", "confidence", "volatility"]
    assert table.num_rows == sum(own.bar.size for own in trained.forecasts.values())
    keys = table.select(["as_of", "symbol", "horizon"]).to_pylist()
    assert len({tuple(key.values()) for key in keys}) == table.num_rows
    first = min(key["as_of"] for key in keys)
    assert first == min(fold.test_first for fold in trained.folds)
    assert max(key["as_of"] for key in keys) == trained.snapshot.last_closed_at


def test_simulated_bars_train_and_are_refused_by_every_gate(real_bars, make_trainer, slice_of, pack_proven):
    trainer = make_trainer(horizons=("1h",), n_trees=2)
    bars = dataclasses.replace(slice_of(real_bars, 0, 6_000), origin=Origin.SIMULATED)

    _, files = pack_proven(trainer.train(data_of(bars)), trainer)

    manifest = msgspec.json.decode(files["manifest.json"], type=Manifest)
    assert manifest.origin is Origin.SIMULATED
    for gate in PAPER_GATES:
        verdict = evaluate(
            gate, files[f"evidence/{gate}.json"], manifest=manifest, now=datetime(2026, 1, 1, tzinfo=UTC)
        )
        assert "simulated" in verdict.reason


def test_clean_features_and_labels_pass_with_checks_of_each_kind(trained):
    leakage = next(found for found in trained.findings if found.gate == "leakage")

    # Every feature and 3 label columns a horizon, 4 corruptions x 3 cut-offs; 12 folds.
    assert leakage.n_checks == 12 * (len(CORE.names) + 3 * 4) + 12
    assert leakage.n_failed == 0


def test_too_few_bars_are_refused_with_what_is_needed(real_bars, make_trainer, slice_of):
    with pytest.raises(ValueError, match=r"horizon 7d: .* rows are too few for 3 folds .* Received 6000 bars"):
        make_trainer().train(data_of(slice_of(real_bars, 0, 6_000)))
    with pytest.raises(ValueError, match="warm-up"):
        make_trainer().train(data_of(slice_of(real_bars, 0, CORE.warm_up_bars - 1)))
    with pytest.raises(ValueError, match="expected at least 9000 training rows"):
        make_trainer(horizons=("1h",), n_rows_min=9_000).train(data_of(slice_of(real_bars, 0, 6_000)))


def test_gaps_drop_rows_and_nothing_else(real_bars, make_trainer, slice_of):
    bars = slice_of(real_bars, 0, 9_000)
    holes = [values.copy() for values in (bars.open, bars.high, bars.low, bars.close, bars.volume)]
    for values in holes:
        values[4_000:4_010, 1] = np.nan
    gapped = dataclasses.replace(bars, **dict(zip(("open", "high", "low", "close", "volume"), holes, strict=True)))

    result = make_trainer(horizons=("1h",)).train(data_of(gapped))

    quality = next(found for found in result.findings if found.gate == "data_quality")
    assert quality.measures["ETHUSDT.n_gaps"] == 1.0
    assert quality.measures["n_rows"] == 9_000 * 3 - 10
    assert not ((result.forecasts["1h"].symbol == 1) & (result.forecasts["1h"].bar == 4_015)).any()
    assert np.isfinite(result.expected).all()
