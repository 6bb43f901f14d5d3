"""Nothing looks back or ahead in time but the aligner, the feature engine and what stands here with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.house.look_back import Use, find_uses

ROOT = Path(__file__).parents[2]

# What may: the aligner itself; the engine, whose kernels are proven feature by feature; labels, which look ahead by
# design and are proven in the row in which they are complete.
HOME = (
    "libs/quant/src/qraft_quant/align/",
    "libs/quant/src/qraft_quant/features/",
    "libs/quant/src/qraft_quant/labels.py",
)
QUANT = "libs/quant/src/qraft_quant/"
DATA = "libs/data/src/qraft_data/"
SCREENING = "libs/screening/src/qraft_screening/"
TRAIN = "svc_train/src/svc_train/"
# (file or folder, what it uses, why no value of another time enters a feature, label or join through it). Folders only
# where nothing of a model's input is computed.
ALLOWED: tuple[tuple[str, set[str], str], ...] = (
    (f"{QUANT}proof/controls.py", {"nancumsum", "searchsorted", "[::-1]"}, "plants the leaks that a proof must catch"),
    (f"{QUANT}proof/perturb.py", {"searchsorted", "diff"}, "finds where the future begins, to corrupt it"),
    (f"{QUANT}proof/compare.py", {"searchsorted"}, "finds where the past ends, to compare it"),
    (f"{QUANT}allocation/correlation.py", {"searchsorted", "diff"}, "one-bar returns of the window it was given"),
    (f"{QUANT}allocation/sizing.py", {"[::-1]", "cumsum"}, "sorts weights by size; no axis is time"),
    (f"{QUANT}calibration.py", {"searchsorted", "diff", "[i + n]"}, "bins of scores; no axis is time"),
    (f"{QUANT}execution/volatility.py", {"[i - n]"}, "one-bar returns of the window that ends at the order"),
    (f"{QUANT}measures.py", {"accumulate", "cumsum", "cumprod"}, "equity curves of finished runs, for reports"),
    (f"{QUANT}splits.py", {"[i + n]"}, "edges of folds"),
    (f"{DATA}audit/", {"[::-1]", "[:-1]", "[1:-1]", "[i - n]", "diff", "searchsorted"},
     "looks for gaps and jumps in stored rows, for the audit's report; hands no rows on"),
    (f"{DATA}bundle/", {"[i - n]", "searchsorted"}, "cuts stored rows into parts of an archive; hands none to a model"),
    (f"{DATA}calendars.py", {"cumsum"}, "numbers the sessions of a published calendar"),
    (f"{DATA}continuous/", {"accumulate", "diff"}, "a roll never goes back: the plan up to a row is of rows up to it"),
    (f"{DATA}options/surface.py", {"interp", "searchsorted"}, "along strikes and expiries of one instant"),
    (f"{DATA}zones.py", {"searchsorted"}, "offsets of time zones, which are published in advance"),
    (f"{SCREENING}drift.py", {"diff", "searchsorted"}, "counts sorted values by bin; no axis is time"),
    (f"{TRAIN}domain/manifest.py", {"[i - n]"}, "last row of a half-open range"),
    (f"{TRAIN}domain/quality.py", {"diff"}, "step of the grid, for the quality report"),
    (f"{TRAIN}usecases/fit.py", {"searchsorted"}, "places of rows within a sorted list of rows"),
    ("libs/registry/", {"[:-1]", "accumulate"}, "the stack of activations; counts gaps to choose what a proof reads"),
    ("libs/store/", {"[:-1]", "[::-1]", "accumulate", "cumsum", "searchsorted"},
     "orders, numbers and cuts stored rows; as-of reads of every adapter pass one suite"),
    ("svc_ingest/", {"[:-1]", "accumulate", "cumsum", "diff", "searchsorted"},
     "judges, cuts and simulates rows before they are stored; nothing of a model's input is computed here"),
    ("svc_backtest/", {"[:-1]", "diff", "searchsorted"}, "places of bars, and returns of a finished equity curve"),
    ("libs/cli/", {"[:-1]", "[::-1]"}, "text, and the newest decision first on the screen"),
    ("svc_imagegen/", {"[1:-1]"}, "text"),
    ("svc_billing/", {"[:-1]", "[1:-1]"}, "text"),
)  # fmt: skip


def _sources() -> list[Path]:
    return sorted([*ROOT.glob("svc_*/src/**/*.py"), *ROOT.glob("libs/*/src/**/*.py")])


@pytest.fixture(scope="module")
def uses() -> list[Use]:
    """Every use outside the home of looking back."""
    found = []
    for path in _sources():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(HOME):
            found += find_uses(name, path.read_text())
    return found


def _is_allowed(use: Use) -> bool:
    return any(use.path.startswith(place) and use.what in what for place, what, _ in ALLOWED)


def test_only_the_aligner_looks_back(uses: list[Use]) -> None:
    """Use qraft_quant.align; where a use is none of time, add it above with the reason."""
    assert [f"{use.path}:{use.line} {use.what}" for use in uses if not _is_allowed(use)] == []


def test_every_exception_is_still_needed_and_has_a_reason(uses: list[Use]) -> None:
    idle = [
        (place, name)
        for place, what, reason in ALLOWED
        for name in what
        if not reason or not any(use.path.startswith(place) and use.what == name for use in uses)
    ]

    assert idle == []


def test_services_of_features_and_training_have_no_exception_by_folder() -> None:
    """Where models get their input, each file stands alone."""
    strict = ("libs/quant/", "libs/screening/", "libs/text/", "svc_features/", "svc_train/", "svc_inference/")

    assert [place for place, *_ in ALLOWED if place.startswith(strict) and not place.endswith(".py")] == []


def test_source_of_every_package_is_read(uses: list[Use]) -> None:
    packages = {path.relative_to(ROOT).parts[0] for path in _sources()}

    assert packages >= {"libs", "svc_features", "svc_train", "svc_ingest", "svc_inference"}
    assert len(uses) > 30


OFFENDERS = {
    "frame.shift(-1)": "shift",
    "frame['close'].rolling(20).mean()": "rolling",
    "frame.expanding().mean()": "expanding",
    "series.ewm(span=3)": "ewm",
    "pd.merge_asof(left, right, on='t')": "merge_asof",
    "left.join_asof(right, on='t')": "join_asof",
    "np.roll(x, 1)": "roll",
    "move = np.roll": "roll",
    "np.cumsum(x, axis=0)": "cumsum",
    "np.maximum.accumulate(x)": "accumulate",
    "frame.cummax()": "cummax",
    "pl.col('c').cum_sum()": "cum_sum",
    "pl.col('c').rolling_mean(3)": "rolling_mean",
    "np.diff(x)": "diff",
    "frame.pct_change()": "pct_change",
    "frame.bfill()": "bfill",
    "frame.fillna(0).interpolate()": "interpolate",
    "np.lib.stride_tricks.sliding_window_view(x, 3)": "sliding_window_view",
    "frame.resample('1h').last()": "resample",
    "frame.group_by_dynamic('t', every='5m')": "group_by_dynamic",
    "np.searchsorted(known_at, at)": "searchsorted",
    "scipy.signal.lfilter(b, a, x)": "lfilter",
    "from numpy import cumsum": "cumsum",
    "from numpy import diff as d": "diff",
    "getattr(np, 'roll')(x, 1)": "roll",
    "x[::-1]": "[::-1]",
    "x[1:] / x[:-1]": "[:-1]",
    "x[h:] - x[:-h]": "[:-h]",
    "x[:, :-1]": "[:-1]",
    "x[t - 1]": "[i - n]",
    "x[t + h, s]": "[i + n]",
    "align.lag(x, 1); np.roll(x, 1)": "roll",
    "class align: pass\nalign.lag(x, 1)": "lag",
}


@pytest.mark.parametrize("source", OFFENDERS)
def test_planted_offender_is_found(source: str) -> None:
    found = find_uses("svc_features/src/svc_features/usecases.py", source)

    assert OFFENDERS[source] in {use.what for use in found}
    assert not any(_is_allowed(use) for use in found)


@pytest.mark.parametrize(
    "source",
    [
        "from qraft_quant.align import lag, rolling",
        "from qraft_quant import align\nalign.lag(x, 1)",
        "x[1:]",
        "x[-1]",
        "x[:n]",
        "names[prefix][0]",
        "x[start:end]",
        "x[CALENDARS + name]",
        "x.mean(axis=0)",
    ],
)
def test_honest_code_is_left_alone(source: str) -> None:
    assert find_uses("svc_features/src/svc_features/usecases.py", source) == []


def test_index_arithmetic_is_a_look_at_another_time_only_where_rows_are_times() -> None:
    assert find_uses("svc_imagegen/src/svc_imagegen/domain/x.py", "data[at + 1]") == []
    assert find_uses("libs/text/src/qraft_text/x.py", "data[at + 1]") != []
