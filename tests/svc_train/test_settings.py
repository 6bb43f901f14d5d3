import io
import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from qraft_contracts.subjects import HORIZONS
from svc_train.adapters.progress import StdoutProgress
from svc_train.domain.config import TrainConfig, horizon_bars
from svc_train.settings import TrainSettings


def test_defaults_are_the_standard_recipe():
    assert TrainSettings().config() == TrainConfig(seed=7)
    assert TrainSettings().until is None


def test_environment_shapes_the_run(monkeypatch):
    monkeypatch.setenv("QRAFT_TRAIN_UNTIL", "2025-08-01T00:00:00Z")
    monkeypatch.setenv("QRAFT_TRAIN_HORIZONS", "1h, 4h")
    monkeypatch.setenv("QRAFT_TRAIN_SYMBOLS", "BTCUSDT,ETHUSDT")
    monkeypatch.setenv("QRAFT_TRAIN_ROW_STRIDE", "6")
    monkeypatch.setenv("QRAFT_TRAIN_REGISTER_CANDIDATE", "false")

    settings = TrainSettings()

    assert settings.until == datetime(2025, 8, 1, tzinfo=UTC)
    assert settings.symbols == ("BTCUSDT", "ETHUSDT")
    assert (settings.config().horizons, settings.config().row_stride) == (("1h", "4h"), 6)
    assert not settings.register_candidate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UNTIL", "2025-08-01T00:00:00"),
        ("N_FOLDS", "0"),
        ("HORIZONS", "1h,2h"),
        ("HORIZONS", ""),
        ("HORIZONS", "1h,1h"),
    ],
)
def test_senseless_settings_are_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(f"QRAFT_TRAIN_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        TrainSettings()


def test_every_horizon_is_a_whole_number_of_bars_or_is_refused():
    assert [horizon_bars(horizon, interval="5m") for horizon in HORIZONS] == [12, 48, 288, 2016]
    with pytest.raises(ValueError, match="whole number"):
        horizon_bars("4h", interval="1d")


def test_progress_is_one_json_line_a_step_and_keeps_the_seconds():
    stream, times = io.StringIO(), iter([0.0, 2.0, 5.0])
    progress = StdoutProgress(stream, monotonic_s=lambda: next(times))

    progress.begin(2)
    progress.step("features")
    progress.step("export")
    seconds = progress.end()
    progress.finished(model_id="m01", origin="replay", horizons=["1h"])

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["step"], line["name"]) for line in lines[:3]] == [(0, "features"), (1, "export"), (2, "done")]
    assert {(line["event"], line["n_steps"]) for line in lines[:3]} == {("train.progress", 2)}
    assert lines[3] == {"event": "train.finished", "model_id": "m01", "origin": "replay", "horizons": ["1h"]}
    assert seconds == {"features": 2.0, "export": 3.0}
