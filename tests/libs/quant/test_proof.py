"""The proof must catch what leaks and let pass what does not."""

from __future__ import annotations

import numpy as np
import pytest

from qraft_quant.proof import prove_no_look_ahead, prove_start_independence

N_BARS = 400
CUT_OFFS = (0, 57, 211, 398)


def _closes(seed: int = 3) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, (N_BARS, 3)), axis=0))


def _prove(compute, closes=None):
    inputs = [_closes() if closes is None else closes]
    return prove_no_look_ahead(
        lambda values, _: {"x": compute(values[0])}, inputs, first_index=0, cut_offs=CUT_OFFS, seed=1
    )


def _next(x):
    return np.concatenate([x[1:], np.full((1, x.shape[1]), np.nan)])


@pytest.mark.parametrize(
    "leak",
    [
        lambda x: (x - np.nanmean(x, axis=0)) / np.nanstd(x, axis=0),  # whole-column z-score
        _next,  # shift(-1)
        lambda x: np.broadcast_to(x[-1], x.shape).copy(),  # last value
        lambda x: np.log(_next(x) / x),  # an undelayed label
        lambda x: np.where(np.isnan(x).any(), 1.0, 0.0) + 0 * x,  # knows that a gap will come
        lambda x: np.nancumsum(x, axis=0) + 1e-13 * np.nanmax(x),  # as small as a rounding error
    ],
    ids=["z-score", "shift", "last", "label", "gap", "tiny"],
)
def test_a_planted_leak_is_caught(leak):
    with np.errstate(all="ignore"):
        proof = _prove(leak)

    assert not proof.passed
    assert proof.failed_columns == ("x",)


@pytest.mark.parametrize(
    "honest",
    [
        lambda x: np.cumsum(x, axis=0) / np.arange(1, len(x) + 1)[:, None],  # expanding mean
        lambda x: np.concatenate([np.full((1, x.shape[1]), np.nan), np.diff(np.log(x), axis=0)]),
    ],
    ids=["expanding mean", "return"],
)
def test_what_uses_the_past_alone_passes(honest):
    proof = _prove(honest)

    assert proof.passed
    assert proof.n_checks >= 4 * (len(CUT_OFFS) - 1)


def test_leaks_are_told_apart_by_column():
    closes = _closes()

    proof = prove_no_look_ahead(
        lambda values, _: {"good": values[0] * 2, "bad": _next(values[0])},
        [closes],
        first_index=0,
        cut_offs=(50,),
        seed=1,
    )

    assert proof.failed_columns == ("bad",)
    assert proof.columns[1].failures == ("nan after 50", "shuffle after 50", "noise after 50", "end after 50")


def test_comparing_nothing_but_nan_is_no_proof():
    proof = _prove(lambda x: np.full(x.shape, np.nan))

    assert not proof.passed
    assert proof.n_checks == 0


def test_a_cut_off_without_a_future_is_refused():
    with pytest.raises(ValueError, match="cut-offs"):
        prove_no_look_ahead(lambda v, _: {"x": v[0]}, [_closes()], first_index=0, cut_offs=(N_BARS - 1,), seed=1)


def test_start_independence_tells_a_window_from_an_endless_memory():
    def window(values, _):
        x = values[0]
        out = np.full(x.shape, np.nan)
        out[9:] = np.lib.stride_tricks.sliding_window_view(x, 10, axis=0).sum(axis=-1)
        return {"x": out}

    def endless(values, _):
        return {"x": np.cumsum(values[0], axis=0)}

    arguments = {"first_index": 0, "starts": (20, 100), "warm_up_bars": 9}

    assert prove_start_independence(window, [_closes()], **arguments).passed
    assert not prove_start_independence(endless, [_closes()], **arguments).passed


def test_a_start_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="starts"):
        prove_start_independence(
            lambda v, _: {"x": v[0]}, [_closes()], first_index=0, starts=(N_BARS - 5,), warm_up_bars=9
        )
