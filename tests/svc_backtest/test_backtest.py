"""The job from artefacts to report, and twice in fresh processes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tests.svc_backtest.kit import (
    MODEL_ID,
    closed_at,
    forecasts,
    manifest,
    parquet,
    prices,
    store_bars,
    store_candidate,
)
from tests.svc_backtest.test_simulate import TERMS

from qraft_contracts.origin import Origin
from qraft_quant.allocation import DEMO, STANDARD
from qraft_store.artefacts.memory import MemoryArtefactStore
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from svc_backtest.adapters.oof import OutOfFold
from svc_backtest.settings import LimitSettings
from svc_backtest.usecases import Backtest, Stored

# A day of history, two of forecasts.
N_BARS, FIRST = 3 * 288, 288


@pytest.fixture
async def artefacts() -> MemoryArtefactStore:
    store = MemoryArtefactStore()
    await store_candidate(store, forecasts(N_BARS, FIRST), n_bars=N_BARS, first=FIRST)
    return store


@pytest.fixture
def bars() -> MemoryBarStore:
    store = MemoryBarStore()
    store_bars(store, prices(N_BARS), missing=frozenset({(FIRST + 50, 1)}))
    return store


async def evaluate(artefacts: MemoryArtefactStore, bars: MemoryBarStore, *, days: int | None = None) -> Stored:
    backtest = Backtest(artefacts=artefacts, bars=bars, read_forecasts=OutOfFold)
    return await backtest.run(MODEL_ID, limits=DEMO, terms=TERMS, days=days, tell=lambda done, n: None)


async def test_result_report_and_orders_are_stored_and_agree(artefacts: MemoryArtefactStore, bars: MemoryBarStore):
    stored = await evaluate(artefacts, bars)

    result = json.loads(await artefacts.get(f"{stored.folder}/result.json"))
    orders = await artefacts.get(f"{stored.folder}/orders.csv")
    assert (result["model_id"], result["profile"], result["origin"]) == (MODEL_ID, "demo", "replay")
    assert result["order_list_sha256"] == hashlib.sha256(orders).hexdigest()
    assert len(orders.splitlines()) - 1 == result["whole"]["n_orders"] > 100
    assert [fold["name"] for fold in result["folds"]] == ["fold 1", "fold 2"]
    assert sum(fold["n_bars"] for fold in result["folds"]) == result["whole"]["n_bars"] == N_BARS - FIRST
    assert sum(fold["n_orders"] for fold in result["folds"]) == result["whole"]["n_orders"]
    growth = [1.0 + fold["total_return"] for fold in result["folds"]]
    assert growth[0] * growth[1] == pytest.approx(1.0 + result["whole"]["total_return"])
    assert result["whole"]["n_observations"] == 2
    assert result["limits"]["score_min"] == dict(DEMO.score_min)
    assert "no gate" in " ".join(result["what_it_is_not"])


async def test_report_is_one_file_in_two_languages_with_badges_and_charts(
    artefacts: MemoryArtefactStore, bars: MemoryBarStore
):
    stored = await evaluate(artefacts, bars)
    page = (await artefacts.get(f"{stored.folder}/report.html")).decode()

    for text in (
        "Equity",
        "净值",
        "Drawdown",
        "回撤",
        "What this is, and what it is not",
        "不是什么",
        "replay · 回放",
        "demo",
    ):
        assert text in page
    assert page.count("<svg") == 3 + 4 and "nan" not in page.lower().replace("finance", "")
    assert not re.search(r"(src|href)=|<script|url\(|@import|https?://", page)


async def test_days_takes_the_last_days_only(artefacts: MemoryArtefactStore, bars: MemoryBarStore):
    whole, last = await evaluate(artefacts, bars), await evaluate(artefacts, bars, days=1)

    assert last.folder != whole.folder
    assert last.result.whole.first_at == closed_at(N_BARS - 1) - timedelta(days=1)
    assert [fold.name for fold in last.result.folds] == ["fold 1", "fold 2"]


async def test_the_worst_origin_wins():
    store, simulated = MemoryArtefactStore(), MemoryBarStore()
    oof = parquet(forecasts(N_BARS, FIRST))
    body = manifest(oof, n_bars=N_BARS, first=FIRST).replace(
        b'"origin": "replay", "trained', b'"origin": "simulated", "trained'
    )
    await store.put(f"models/{MODEL_ID}/oof.parquet", oof)
    await store.put(f"models/{MODEL_ID}/manifest.json", body)
    store_bars(simulated, prices(N_BARS))

    assert (await evaluate(store, simulated, days=1)).result.origin is Origin.SIMULATED


async def test_latest_is_the_model_trained_on_the_newest_data():
    store = MemoryArtefactStore()
    backtest = Backtest(artefacts=store, bars=MemoryBarStore(), read_forecasts=OutOfFold)
    with pytest.raises(ValueError, match="found none"):
        await backtest.latest()
    for name, day in (("m1", 1), ("m2", 3), ("m3", 2)):
        body = manifest(b"", n_bars=10, first=5, model_id=name, trained_until=closed_at(0) + timedelta(days=day))
        await store.put(f"models/{name}/manifest.json", body)

    assert await backtest.latest() == "m2"


async def test_missing_parts_are_refused_with_what_to_do(artefacts: MemoryArtefactStore, bars: MemoryBarStore):
    backtest = Backtest(artefacts=artefacts, bars=MemoryBarStore(), read_forecasts=OutOfFold)
    run = {"limits": STANDARD, "terms": TERMS, "days": None, "tell": lambda done, n: None}

    with pytest.raises(ValueError, match="load the history"):
        await backtest.run(MODEL_ID, **run)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        await backtest.run("m-unknown", **run)
    with pytest.raises(ValueError, match="expected oof"):
        OutOfFold(b"no parquet")


def test_the_limits_are_read_from_the_allocators_own_variables(monkeypatch: pytest.MonkeyPatch):
    from svc_allocator.settings import AllocatorSettings

    assert set(LimitSettings.model_fields) == set(AllocatorSettings.model_fields)
    assert LimitSettings.model_config["env_prefix"] == AllocatorSettings.model_config["env_prefix"]
    monkeypatch.setenv("QRAFT_ALLOCATOR_PROFILE", "demo")
    monkeypatch.setenv("QRAFT_ALLOCATOR_DEMO_SCORE_MIN", '{"7d": 0.001}')
    monkeypatch.setenv("QRAFT_ALLOCATOR_BUCKET_CAPS", '{"trend": 0.2}')

    assert LimitSettings().limits(None) == AllocatorSettings().limits
    assert LimitSettings().limits("standard").score_min == STANDARD.score_min


def test_a_bucket_cap_looser_than_the_lines_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QRAFT_ALLOCATOR_BUCKET_CAPS", '{"trend": 0.6}')

    with pytest.raises(ValueError, match=r"bucket trend in \[0, 0\.55\]"):
        LimitSettings().limits(None)


def test_two_fresh_processes_with_other_hash_seeds_make_the_same_order_list(tmp_path: Path):
    ids = []
    for seed in ("1", "2"):
        home = tmp_path / seed
        lake = ParquetLake(home / "lake")
        store_bars(lake, prices(N_BARS))
        lake.close()
        store = ObjectArtefactStore(home / "artefacts")
        asyncio.run(store_candidate(store, forecasts(N_BARS, FIRST), n_bars=N_BARS, first=FIRST))
        done = subprocess.run(
            [sys.executable, "-m", "svc_backtest", "--model", "latest", "--profile", "demo", "--days", "1"],
            env={**os.environ, "PYTHONHASHSEED": seed, "QRAFT_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (result,) = (home / "artefacts").glob(f"models/{MODEL_ID}/backtest/*/result.json")
        ids.append((result.parent.name, json.loads(result.read_bytes())["order_list_sha256"]))
        assert done.stdout.strip() == f"models/{MODEL_ID}/backtest/{result.parent.name}/report.html"

    assert ids[0] == ids[1]


def test_an_unknown_model_ends_with_exit_code_2_and_a_reason(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "svc_backtest", "--model", "m0000000000000000"],
        env={**os.environ, "QRAFT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2 and "manifest.json" in done.stderr
