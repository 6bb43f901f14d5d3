"""One setting names the features of the whole line."""

import io

import pytest

from qraft_quant.features import SETS
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from svc_features import app as features_app
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

    with pytest.raises(ValueError, match="expected a feature set out of core, full"):
        features_app.build(common, FeaturesSettings())
    with pytest.raises(ValueError, match="expected a feature set out of core, full"):
        _train(common)
