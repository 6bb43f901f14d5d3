"""`text fit | compute | prove | show` on a real lake, through the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qraft_registry.proof_record import ProofRecord
from qraft_registry.proof_rules import text_shortfall
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.schema import table_schema
from qraft_text.state import FIELDS
from svc_features.__main__ import EXIT_USAGE, main

START = datetime(2021, 1, 10, tzinfo=UTC)
N_POSTS = 700
WORDS = ["bitcoin", "moon", "crash", "ether", "buy", "sell", "hack", "upgrade", "etf", "rally", "panic", "fed", "rekt"]
RANGE = ["--market", "twitter", "--symbols", "BTCUSDT", "--encoder", "hashed"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with three days of posts of drawn words."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(12)
    rows = [
        {
            "symbol": "BTCUSDT", "event_at": START + timedelta(minutes=6 * i), "row_id": f"p{i}", "revision": 0,
            "known_at": START + timedelta(minutes=6 * i + 1), "origin": "replay", "source": "test", "platform": "x",
            "author_hash": f"a{i % 50}", "text": " ".join(rng.choice(WORDS, 6)), "language": None, "is_comment": False,
        }
        for i in range(N_POSTS)
    ]  # fmt: skip
    tables = ParquetTables(folder / "lake")
    tables.append("posts", market="twitter", rows=pa.Table.from_pylist(rows, schema=table_schema("posts")))
    tables.close()
    return folder


@pytest.fixture
def run(home, monkeypatch, capsys):
    """Run a command and return (exit code, the JSON that it printed)."""
    monkeypatch.setenv("QRAFT_HOME", str(home))

    def call(*words):
        capsys.readouterr()
        code = main(["text", *map(str, words)])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return call


def fit(run, *, until="2021-01-12"):
    code, said = run("fit", *RANGE, "--from", "2021-01-10", "--until", until, "--components", 4)
    assert code == 0
    return said


def test_fit_stores_a_reduction_and_compute_names_it_and_its_bytes(run, tmp_path):
    fitted = fit(run)
    out = tmp_path / "text.parquet"
    words = ["compute", *RANGE, "--from", "2021-01-12", "--until", "2021-01-12T12:00:00Z", "--out", out]

    code, said = run(*words, "--reduction", fitted["reduction"])
    again = run(*words, "--reduction", fitted["reduction"], "--threads", 3)[1]
    _, shown = run("show", fitted["reduction"])
    table = pq.read_table(out)
    manifest = json.loads(table.schema.metadata[b"qraft.manifest"])

    assert code == 0
    assert fit(run)["sha256"] == fitted["sha256"]
    assert said["sha256"] == again["sha256"] == manifest["sha256"]
    assert manifest["spec"]["reduction_sha256"] == fitted["sha256"]
    assert shown["encoder_sha256"] == manifest["spec"]["encoder_sha256"]
    assert said["is_degraded"] and fitted["is_degraded"]
    assert (table.num_rows, table.num_columns) == (144, said["n_columns"] + 2)
    assert again["n_encoded"] == 0 < again["n_from_cache"]
    assert said["origin"] == "replay" == table.schema.metadata[b"qraft.origin"].decode()


def test_aggregates_need_no_encoder(run, tmp_path):
    code, said = run("compute", *RANGE, "--from", "2021-01-12", "--until", "2021-01-12T01:00:00Z", "--out",
                     tmp_path / "a.parquet")  # fmt: skip

    assert code == 0
    assert "n_encoded" not in said
    assert said["n_by_reason"]["posts"]["kept"] > 0


def test_what_cannot_be_done_is_refused_with_exit_code_2(run, tmp_path):
    fitted = fit(run)
    out = ["--out", tmp_path / "x.parquet"]
    day = ["--from", "2021-01-11", "--until", "2021-01-12"]

    assert run("compute", *RANGE, *day, *out, "--reduction", fitted["reduction"])[0] == EXIT_USAGE
    assert run("compute", *RANGE, *day, *out, "--reduction", fitted["reduction"], "--in-sample")[0] == 0
    assert run("compute", *RANGE, *day, *out, "--reduction", "text/reductions/none.json")[0] == EXIT_USAGE
    assert run("compute", "--market", "nobody", *day, *out)[0] == EXIT_USAGE
    assert run("fit", *RANGE, "--from", "2021-01-10", "--until", "2021-01-10T02:00:00Z")[0] == EXIT_USAGE
    assert run("show", "text/none.json")[0] == EXIT_USAGE


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["fit", *RANGE, "--from", "2021-01-10", "--until", "2021-01-12", "--components", "17"], "bad_components"),
        (["fit", *RANGE, "--from", "2021-01-12", "--until", "2021-01-10"], "bad_range"),
        (["fit", *RANGE, "--from", "2021-01-10", "--until", "2021-01-10T02:00:00Z"], "unfit_texts"),
        (["fit", "--market", "nobody", "--from", "2021-01-10", "--until", "2021-01-12"], "no_texts"),
        (["compute", *RANGE, "--from", "2021-01-12", "--until", "2021-01-11", "--out", "x"], "bad_range"),
        (["compute", *RANGE, "--from", "2031-01-12", "--until", "2031-01-13", "--out", "x"], "unfit_texts"),
    ],
)
def test_what_is_refused_is_named_by_its_own_reason(home, monkeypatch, capsys, words, reason):
    monkeypatch.setenv("QRAFT_HOME", str(home))

    assert main(["text", *words]) == EXIT_USAGE
    assert f'"{reason}"' in "".join(capsys.readouterr())


def test_reduction_of_another_time_is_named_as_such(run, home, monkeypatch, capsys, tmp_path):
    key = fit(run)["reduction"]
    words = ["compute", *RANGE, "--from", "2021-01-11", "--until", "2021-01-12", "--out", str(tmp_path / "x")]

    assert main(["text", *words, "--reduction", key]) == EXIT_USAGE
    assert '"before_fit"' in "".join(capsys.readouterr())


def test_proof_is_stored_found_again_and_named_by_compute(run, home, tmp_path):
    code, said = run("prove", "--market", "twitter", "--encoder", "hashed")
    found = run("prove", "--market", "twitter", "--encoder", "hashed")[1]
    computed = run("compute", *RANGE, "--from", "2021-01-12", "--until", "2021-01-12T01:00:00Z", "--out",
                   tmp_path / "a.parquet")[1]  # fmt: skip
    record = msgspec.json.decode((home / "artefacts" / said["proof"]).read_bytes(), type=ProofRecord)

    assert (code, said["fault"], said["is_new"], found["is_new"]) == (0, None, True, False)
    assert found["proof"] == computed["proof"] == said["proof"]
    assert record.feature_signature == computed["signature"]
    assert text_shortfall(record, fields=FIELDS) is None
    fewer = msgspec.structs.replace(record, controls=record.controls[:2])
    assert str(text_shortfall(fewer, fields=FIELDS)).startswith("proof_without_controls")
    broken = msgspec.structs.replace(record.columns[0], failures=("nan after 5",))
    failed = msgspec.structs.replace(record, columns=(broken, *record.columns[1:]))
    assert record.columns[0].name in str(text_shortfall(failed, fields=FIELDS))


def test_show_lists_filters_and_columns(run):
    code, said = run("show")

    assert code == 0
    assert said["filters"]["words_min"] == 3
    assert {"posts_heat", "news_sentiment_24h", "comment_ratio_24h"} <= set(said["columns"])
