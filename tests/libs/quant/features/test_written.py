"""Features that a person writes into a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.libs.quant.features.market import FIRST_INDEX, sha256, walk

from qraft_quant.features import CORE, SETS, FeatureSpec, compute_history
from qraft_quant.features.sets.written import written_set

MINE = """
name = "mine"
extends = "core"

[trend]
gap_60 = "log(close) - mean(log(close), 60)"
"slope_{n}_{of}" = { expression = "slope(log({of}), {n})", n = [24, 96], of = ["close", "high"] }

[own]
calm = { expression = "std(r, 96) < 0.001", version = 3 }
"""


def mine(text=MINE, **options):
    return written_set(text, registered=SETS, **options)


def test_a_line_is_a_feature_and_lists_are_many():
    features = mine()

    assert features.name == "mine" and features.features[:44] == CORE.features
    assert features.features[44] == FeatureSpec("gap_60", "trend", "log(close) - mean(log(close), 60)")
    assert features.names[45:] == ("slope_24_close", "slope_24_high", "slope_96_close", "slope_96_high", "calm")
    assert features.features[46].formula == "slope(log(high), 24)"
    assert features.features[-1].version == 3 and features.features[-1].family == "own"


def test_what_is_written_is_computed_and_signed_as_if_it_stood_in_the_code():
    bars, features = walk(n_bars=300), mine()

    values = compute_history(bars, FIRST_INDEX, features=features)

    x = np.log(bars["close"])
    np.testing.assert_allclose(values[-1, :, 44], x[-1] - x[-60:].mean(axis=0), rtol=1e-6)
    assert sha256(values[..., :44]) == sha256(compute_history(bars, FIRST_INDEX, features=CORE))
    assert features.signature("5m") != CORE.signature("5m")
    assert mine(MINE.replace("version = 3", "version = 4")).signature("5m") != features.signature("5m")


def test_json_says_the_same():
    as_json = json.dumps({
        "name": "mine",
        "extends": "core",
        "trend": {
            "gap_60": "log(close) - mean(log(close), 60)",
            "slope_{n}_{of}": {"expression": "slope(log({of}), {n})", "n": [24, 96], "of": ["close", "high"]},
        },
        "own": {"calm": {"expression": "std(r, 96) < 0.001", "version": 3}},
    })  # fmt: skip

    assert mine(as_json, is_json=True) == mine()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "expected TOML: "),
        ('[a]\nb = "close"', "expected a name like .* other than core, full, received None"),
        ('name = "core"\n[a]\nb = "close"', "other than core, full, received 'core'"),
        ('name = "x"\nextends = "best"', "expected extends out of core, full, received 'best'"),
        ('name = "x"\nb = "close"', "expected a table of features under the family b, received 'close'"),
        ('name = "x"\n[a]\nb = 3', "a.b: expected an expression, or a table with `expression`, received 3"),
        ('name = "x"\n[a]\nb = { n = [3] }', "a.b: expected an expression, or a table"),
        ('name = "x"\n[a]\nb = "meen(close, 3)"', "a.b: b: expected an operator out of .*mean.*, received meen"),
        ('name = "x"\n[a]\nb = "mean(close, 9000)"', r"a.b: b: expected n of mean within \[2, 2016\], received 9000"),
        ('name = "x"\n[a]\nb = { expression = "mean(close, {n})" }', r"expected a list for each of \['n'\], received"),
        ('name = "x"\n[a]\nb = { expression = "r", n = [3] }', r"each of \[\], received \['n'\]"),
        ('name = "x"\n[a]\nb = { expression = "r", n = 3 }', "a.b: expected a list of numbers or words for n"),
        ('name = "x"\n[a]\nb = { expression = "r", version = 0 }', "a.b: expected a version from 1 on, received 0"),
        ('name = "x"\n[a]\nb = { expression = "mean(close, {n})", n = [2, 3] }', "distinct features, .*twice: .'b'"),
        ('name = "x"\n[a]\nreturn_1 = "r"\nreturn_1 = "r"', "expected TOML: "),
        ('name = "x"\nextends = "core"\n[a]\nreturn_1 = "r"', "twice: .'return_1'"),
        ('name = "x"\n[a]\nB = "r"', "a.B: expected a name and a family like"),
        ('name = "x"', "expected 1 to 4096 distinct features, received 0"),
        ('name = "x"\n[a]\n"b_{n}_{k}" = { expression = "lag(r, {n}) - lag(r, {k})", n = ['
         + ",".join(map(str, range(1, 101))) + "], k = [" + ",".join(map(str, range(1, 101))) + "] }",
         "expected at most 4096 features in a set"),
        ("#" * 1_000_001, "expected at most 1000000 characters"),
    ],
)  # fmt: skip
def test_what_is_no_set_is_refused_with_where_and_what_was_expected(text, message):
    with pytest.raises(ValueError, match=message):
        mine(text)


@pytest.mark.parametrize("text", ["[]", "3", '"close"', "{", "[" * 5_000])
def test_json_of_another_shape_is_refused(text):
    with pytest.raises(ValueError, match=r"expected (a table|JSON)"):
        mine(text, is_json=True)
