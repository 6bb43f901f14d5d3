"""One setting names the features of the whole line."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_frames.bars import BarBatch
from qraft_quant.features import SETS
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.bars import panel
from qraft_store.bars.lake import ParquetLake
from svc_features import app as features_app
from svc_features import usecases
from svc_features.__main__ import EXIT_USAGE, main
from svc_features.settings import FeaturesSettings
from svc_train import app as train_app
from svc_train.settings import TrainSettings


def _train(common):
    return train_app.build(TrainSettings(), common, clock=SystemClock(), stdout=io.StringIO())


@pytest.mark.parametrize("name", SETS)
def test_training_uses_the_set_that_is_named(monkeypatch, name):
    monkeypatch.setenv("QRAFT_FEATURES_SET", name)

    job = _train(CommonSettings())

    assert job.trainer.features.names == SETS[name].names
    assert job.trainer.features.signature == job.proven.signature == SETS[name].signature("5m")


def test_a_set_that_is_not_there_is_refused_by_both_ends_of_the_line():
    common = CommonSettings(features_set="best")

    with pytest.raises(Malformed, match="expected a feature set out of core, full"):
        features_app.build(common, FeaturesSettings())
    with pytest.raises(Malformed, match="bad_feature_set: QRAFT_FEATURES_SET: expected a feature set out of"):
        _train(common)


@pytest.mark.parametrize("words", [[], ["list"]])
def test_mistyped_set_in_the_settings_ends_with_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path, words):
    monkeypatch.setenv("QRAFT_FEATURES_SET", "best")
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path))

    assert main(words) == EXIT_USAGE
    assert "bad_feature_set" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("market", "until", "reason"),
    [("crypto", "2025-06-03", "range_too_large"), ("nobody", "2025-06-03", "no_bars"),
     ("no market", "2025-06-03", "bad_market"), ("crypto", "2990-01-01", "range_too_large")],
)  # fmt: skip
def test_compute_that_cannot_be_held_in_memory_is_refused_by_its_reason(
    monkeypatch, capsys, tmp_path, market, until, reason
):
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path))
    monkeypatch.setattr(usecases, "GIBIBYTES_MAX", 1e-6)
    store(tmp_path)

    code = main(["compute", "--set", "core", "--market", market, "--interval", "5m", "--from", "2025-06-01", "--until",
                 until, "--out", str(tmp_path / "o.parquet")])  # fmt: skip

    assert code == EXIT_USAGE and reason in "".join(capsys.readouterr())


def test_proof_over_more_than_the_memory_is_refused_by_that_reason(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path))
    store(tmp_path)
    words = ["prove", "--set", "core", "--market", "crypto", "--interval", "5m"]

    few = main(words), "too_few_bars" in "".join(capsys.readouterr())
    monkeypatch.setattr(panel, "MAX_PANEL_CELLS", 10)
    many = main(words), "range_too_large" in "".join(capsys.readouterr())

    assert few == many == (EXIT_USAGE, True)


def store(home):
    """Store two bars."""
    lake, step, price = ParquetLake(home / "lake"), timedelta(minutes=5), [np.array([1.0])] * 5
    ends = [datetime(2025, 6, 2, tzinfo=UTC) + i * step for i in range(2)]
    lake.append([BarBatch("crypto", "5m", end, end, 0, Origin.REPLAY, ("A",), *price) for end in ends])
    lake.close()
