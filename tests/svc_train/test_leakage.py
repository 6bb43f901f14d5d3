import numpy as np
import pytest
from tests.svc_train.kit import data_of

from qraft_quant.splits import Fold
from svc_train.domain.leakage import prove_no_leakage
from svc_train.domain.panel import FeatureSet
from svc_train.domain.targets import make_targets

pytestmark = pytest.mark.data

N_BARS = 600


@pytest.fixture
def bars(real_bars, slice_of):
    return slice_of(real_bars, 3_000, 3_000 + N_BARS)


def features_of(*columns):
    """A feature set whose columns are functions of the close alone."""

    def compute(inputs, first_index):
        return np.stack([column(inputs["close"]) for column in columns], axis=2).astype(np.float32)

    return FeatureSet(tuple(column.__name__ for column in columns), "s", compute)


PURGED = Fold(0, 200, 212, 300)


def prove(bars, features, *, folds=(PURGED,)):
    target = make_targets(bars.close, horizon="1h", n_bars_ahead=12, cost=0.0047, known_frac_min=0.95)
    return prove_no_leakage(data_of(bars), features, [target], (folds,), first_bar=0, seed=7)


def expanding_mean(close):
    return np.cumsum(close, axis=0) / np.arange(1, len(close) + 1)[:, None]


def log_return(close):
    return np.diff(np.log(close), axis=0, prepend=np.nan)


def full_mean(close):
    return close - np.nanmean(close, axis=0)


def last_value(close):
    return close / close[-1]


def next_bar(close):
    return np.concatenate([close[1:], close[-1:]])


def whole_frame_z_score(close):
    return (close - close.mean()) / close.std()


def forward_join(close):
    """The close of the next round quarter of an hour, as a join in the wrong direction gives it."""
    where = np.minimum((np.arange(len(close)) + 2) // 3 * 3, (len(close) - 1) // 3 * 3)
    return close[where]


def vanishing_row(close):
    """Nothing changes but that a row appears only where the next bar is known."""
    return np.where(np.isnan(np.concatenate([close[1:], close[-1:]])), np.nan, 1.0)


def test_causal_features_and_labels_pass(bars):
    found = prove(bars, features_of(expanding_mean, log_return))

    assert found.n_failed == 0
    assert found.n_checks == 12 * (2 + 3) + 1


def hourly_join(close):
    """The last close of the hour that the bar lies in."""
    return close[np.minimum(np.arange(len(close)) // 12 * 12 + 11, len(close) - 1)]


@pytest.mark.parametrize(
    "leak", [hourly_join, full_mean, last_value, next_bar, whole_frame_z_score, forward_join, vanishing_row]
)
def test_planted_leak_is_found_and_named_alone(bars, leak):
    found = prove(bars, features_of(log_return, leak))

    assert found.n_failed >= 1
    assert all(name.startswith(f"{leak.__name__}: ") for name in found.failures)


def test_fold_whose_labels_reach_its_test_is_found(bars):
    found = prove(bars, features_of(log_return), folds=(Fold(0, 200, 211, 300), PURGED))

    assert found.failures == ("1h fold 0: training labels end in the test",)


def test_comparing_nothing_but_nan_is_no_proof(bars):
    def blind(close):
        return np.full(close.shape, np.nan)

    assert prove(bars, features_of(blind)).failures == ("blind: nothing known was compared",)
