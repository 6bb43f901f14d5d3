"""`screen`, `watch` and `page` as an operator calls them, on a lake of made-up bars."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch
from qraft_store.bars.lake import ParquetLake
from svc_features.__main__ import main

STEP = timedelta(minutes=5)
FIRST = datetime(2025, 3, 1, tzinfo=UTC)
END = datetime(2025, 3, 29, tzinfo=UTC)
N_LATER = 3 * 288


def make_bars(n_bars, *, seed):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, (n_bars, 2)), axis=0))
    spread = np.exp(rng.exponential(1e-3, close.shape))
    return close, spread


def store(home, close, spread, *, first):
    lake = ParquetLake(home / "lake")
    lake.append([
        BarBatch("made", "5m", first + i * STEP, first + i * STEP, 0, Origin.SIMULATED, ("AAA", "BBB"), close[i],
                 close[i] * spread[i], close[i] / spread[i], close[i], spread[i])
        for i in range(len(close))
    ])  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    n_bars = (END - FIRST) // STEP
    store(home, *make_bars(n_bars + N_LATER, seed=1), first=FIRST + STEP)
    return home


@pytest.fixture(autouse=True)
def settings(monkeypatch, home):
    monkeypatch.setenv("QRAFT_HOME", str(home))


def screen(*more):
    return main(
        ["screen", "--set", "core", "--market", "made", "--start", "2025-03-01", "--until", END.isoformat(), *more]
    )


@pytest.fixture(scope="module")
def report(home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QRAFT_HOME", str(home))
        assert screen() == 0
    return home / "reports" / "features" / "made-5m-core-1h-20250301T0000-20250329T0000"


def test_screen_writes_report_reference_pages_and_artefact(report, home, capsys):
    assert screen("--threads", "1") == 0

    said = capsys.readouterr()
    line = json.loads(said.out)
    written = report / "report.json"
    assert line["event"] == "features.screened" and line["report"] == str(written)
    assert (home / "artefacts" / line["key"]).read_bytes() == written.read_bytes()
    assert line["counts"]["screened"] == 44 and line["counts"]["model"] == 0  # a random walk foretells nothing
    assert "measured 44 of 44 features" in said.err
    assert {it.name for it in report.iterdir()} >= {"report.json", "drift-reference.json", "index.html", "features"}
    assert len(list((report / "features").glob("*.html"))) == 44
    found = json.loads(written.read_bytes())
    assert found["source"]["origin"] == "simulated" and found["source"]["n_bars"] == 28 * 288


def test_bars_after_the_window_change_no_byte_of_the_report(report, tmp_path, monkeypatch, capsys):
    n_bars = (END - FIRST) // STEP
    close, spread = make_bars(n_bars + N_LATER, seed=1)
    close[n_bars:] *= 50.0
    store(tmp_path, close, spread, first=FIRST + STEP)
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path))

    assert screen() == 0

    for name in ("report.json", "drift-reference.json"):
        assert (tmp_path / report.relative_to(report.parents[2]) / name).read_bytes() == (report / name).read_bytes()


def test_later_bars_are_watched_and_the_pages_show_them(report, capsys):
    later = END + N_LATER * STEP

    assert main(["watch", "--report", str(report), "--until", later.isoformat()]) == 0

    assert json.loads(capsys.readouterr().out)["n_features"] == 44
    assert "after the training window" in (report / "features" / "return_1.html").read_text()
    assert main(["watch", "--report", str(report), "--until", END.isoformat()]) == 2
    assert main(["watch", "--report", str(report / "nowhere"), "--until", later.isoformat()]) == 2


def test_page_is_written_again_with_operators_and_the_proof_as_it_stands(report, capsys):
    place = report / "features" / "return_1.html"
    place.unlink()

    assert main(["page", "return_1", "--report", str(report)]) == 0

    assert json.loads(capsys.readouterr().out)["page"] == str(place)
    text = place.read_text()
    assert "not proven" in text and "qraft features prove" in text and "x of k bars ago" in text
    assert main(["page", "return_99", "--report", str(report)]) == 2


@pytest.mark.parametrize(
    "changed",
    [
        ["--until", "2025-02-01"],  # ends before it begins
        ["--market", "nobody"],
        ["--start", "2026-01-01", "--until", "2026-02-01"],  # no bar in it
        ["--set", "best"],
        ["--automatic", "--automatic-window", "4"],
    ],
)
def test_question_that_cannot_be_answered_is_refused(changed):
    assert screen(*changed) == 2


def test_report_of_other_features_is_refused(report, tmp_path):
    data = json.loads((report / "report.json").read_bytes()) | {"feature_signature": "00"}
    (tmp_path / "report.json").write_text(json.dumps(data))

    assert main(["page", "--report", str(tmp_path)]) == 2


def test_running_service_imports_nothing_of_the_screening():
    # scipy is there already: numba imports it where it finds it.
    heavy = "{'sklearn', 'pandas', 'tsfresh', 'featuretools', 'qraft_screening'}"
    code = f"import sys, svc_features.app, svc_features.__main__; print(sorted({heavy} & set(sys.modules)))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)

    assert found.stdout.strip() == "[]"
