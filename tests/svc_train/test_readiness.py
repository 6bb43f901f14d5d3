"""Modes that ask for an audit: refused with what is missing and the commands, or trained with the audit on record."""

import asyncio
import dataclasses
import hashlib
import io
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.libs.data.data_kit import put_bars, put_rows

from qraft_contracts.outcomes import Refused, Transient
from qraft_data.audit.expectation import FULL_SINCE, window_of
from qraft_data.library import DataLibrary
from qraft_registry.domain import Stage
from qraft_registry.dossier import read_dossier
from qraft_registry.gates import PAPER_GATES
from qraft_registry.memory import MemoryRegistryStore
from qraft_registry.registry import Registry
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables
from svc_train.adapters.audits import LakeAudit
from svc_train.adapters.lake import TrainingLake
from svc_train.app import build
from svc_train.domain.readiness import moved, refusal
from svc_train.domain.request import DataRequest
from svc_train.settings import TrainSettings
from svc_train.usecases.load import DataLoader

# Made up: no source that is stored here reaches from 2018 on without a gap. Hourly bars keep it small.
N_BARS = 3_400
HOUR = timedelta(hours=1)
TIMES = [FULL_SINCE + (i + 1) * HOUR for i in range(N_BARS)]
SYMBOLS = ("BTCUSDT", "ETHUSDT")
SETTINGS = TrainSettings(
    mode="full", horizons=("1h",), n_trees=2, n_folds=1, embargo_bars=24, row_stride=1, n_rows_min=100,
    register_candidate=False, code_revision="test",
)  # fmt: skip
BASIS = {"spot_price": 100.0, "future_price": 100.1, "basis_frac": 0.001}
VALUES = {
    "funding": {"funding_rate": 1e-4, "period_hours": 8.0},
    "open_interest": {"open_interest_usd": 1e9},
    "basis": BASIS,
}


def fill(home, *, kinds=tuple(VALUES), symbols=SYMBOLS, line_gap=0):
    """Store what the audit of a perpetual market requires, and the same bars for the line. line_gap: bars left out."""
    lake, tables = ParquetLake(home / "lake"), ParquetTables(home / "lake")
    library = DataLibrary(lake, tables)
    steps = np.random.default_rng(3).normal(0.0, 0.004, (len(SYMBOLS), N_BARS))
    closes = {name: (100.0 * np.exp(np.cumsum(own))).tolist() for name, own in zip(SYMBOLS, steps, strict=True)}
    put_bars(library, closes, market="binance.perp", interval="1h", closed_at=TIMES)
    for own in closes.values():
        own[1_000 : 1_000 + line_gap] = [np.nan] * line_gap
    put_bars(library, closes, market="crypto", interval="1h", closed_at=TIMES)
    for kind in kinds:
        times = TIMES[7::8] if kind == "funding" else TIMES
        put_rows(library, kind, [{"symbol": s, "event_at": t, **VALUES[kind]} for t in times for s in symbols])
    lake.close()
    tables.close()


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A home whose lake is ready in mode full up to its end in 2018."""
    home = tmp_path_factory.mktemp("ready")
    fill(home)
    return home


def common(home):
    return CommonSettings(home=home, interval="1h", market="crypto", state_market="binance.perp")


def train(home, **changes):
    settings = SETTINGS.model_copy(update=changes)
    model_id = build(settings, common(home), clock=SystemClock(), stdout=io.StringIO()).run()
    return model_id, json.loads((home / "artefacts" / "models" / model_id / "manifest.json").read_text())


def test_full_mode_trains_on_ready_data_and_the_audit_is_on_record(ready):
    model_id, manifest = train(ready)

    claim = manifest["readiness"]
    assert (claim["mode"], claim["verdict"], claim["start"]) == ("full", "ready", "2018-01-01T00:00:00Z")
    assert manifest["data"]["first_closed_at"] == "2018-01-01T01:00:00Z"
    audit = json.loads((ready / "artefacts" / claim["audit"]).read_text())
    assert audit["ready"] and (audit["mode"], audit["market"]) == ("full", "crypto")
    artefacts = ObjectArtefactStore(ready / "artefacts")
    dossier = asyncio.run(read_dossier(artefacts, model_id, gates=PAPER_GATES))
    assert dossier.fault is None and dossier.readiness.verdict == "ready"
    assert dossier.snapshot_id == manifest["data"]["snapshot_id"] == dossier.evidence["snapshot"]
    refused = asyncio.run(refused_for_qualified(artefacts, model_id))
    assert "no_qualified_gates" in refused and "readiness" not in refused


def test_features_are_proven_on_the_state_of_the_snapshot(ready, tmp_path):
    home = shutil.copytree(ready, tmp_path / "home")
    shutil.rmtree(home / "artefacts", ignore_errors=True)
    asking = common(home).model_copy(update={"features_set": "full"})

    build(SETTINGS.model_copy(update={"n_rows_min": 20}), asking, clock=SystemClock(), stdout=io.StringIO()).run()

    (path,) = (home / "artefacts").glob("proofs/*/*.json")
    proof = json.loads(path.read_text())
    assert {"funding_rate", "open_interest_usd", "basis_frac"}.isdisjoint(proof["data"]["stimulated"])
    assert {"long_short_ratio"} <= set(proof["data"]["stimulated"])


async def refused_for_qualified(artefacts, model_id):
    registry = Registry(store=MemoryRegistryStore(), artefacts=artefacts, now=SystemClock().now)
    await registry.register_candidate(model_id, actor="ann", reason="new")
    with pytest.raises(Refused) as refusal:
        await registry.promote(model_id, actor="ann", reason="well", stage=Stage.QUALIFIED)
    return str(refusal.value)


def test_snapshot_of_a_full_training_trains_again_and_gives_the_same_model(ready):
    model_id, manifest = train(ready)

    assert train(ready, snapshot=manifest["data"]["snapshot_id"])[0] == model_id


def test_data_that_trained_in_line_mode_first_become_ready_by_a_training_with_an_audit(tmp_path):
    fill(tmp_path)
    unasked, first = train(tmp_path, mode="line")
    ready, second = train(tmp_path, mode="full")

    assert first["data"] == second["data"] and first["reports"] == second["reports"]
    assert (first["readiness"]["verdict"], second["readiness"]["verdict"]) == ("not_asked", "ready")
    artefacts = ObjectArtefactStore(tmp_path / "artefacts")
    found = [asyncio.run(read_dossier(artefacts, name, gates=PAPER_GATES)) for name in (unasked, ready)]
    assert [(it.fault, it.readiness.verdict) for it in found] == [(None, "not_asked"), (None, "ready")]
    refusals = [asyncio.run(refused_for_qualified(artefacts, name)) for name in (unasked, ready)]
    assert ["readiness_not_asked" in said for said in refusals] == [True, False]
    assert train(tmp_path, mode="line")[0] == unasked


def test_stored_audit_of_another_market_does_not_make_a_model_ready(ready, tmp_path):
    model_id, manifest = train(ready)
    home = shutil.copytree(ready, tmp_path / "home")
    claim, artefacts = manifest["readiness"], ObjectArtefactStore(home / "artefacts")
    audit = msgspec.json.encode(json.loads((home / "artefacts" / claim["audit"]).read_text()) | {"market": "other"})
    sha256 = hashlib.sha256(audit).hexdigest()
    asyncio.run(artefacts.put(f"audits/{sha256}.json", audit))
    manifest["readiness"] |= {"audit": f"audits/{sha256}.json", "audit_sha256": sha256}
    (home / "artefacts" / "models" / model_id / "manifest.json").write_text(json.dumps(manifest))

    found = asyncio.run(read_dossier(artefacts, model_id, gates=PAPER_GATES))

    assert found.fault == "audit_of_other_market: the audit is of other, the snapshot of crypto"


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ({"kinds": ("funding", "open_interest")},
         r"mode full, crypto 2018-01-01T00:00:00Z to .*: expected every required series ready, received 6 of 7: "
         r"basis binance.perp: nothing of basis is stored.*To mend it: qraft data collect --source derived --kind basis"
         r".*qraft data audit --mode full --market crypto --interval 1h --until 2018-05-22T16:00:00Z.*MODE=line"),
        ({"symbols": ("BTCUSDT",)},
         r"funding binance.perp ETHUSDT: nothing of funding is stored.*--exchange binance --kind funding --symbol ETH"),
        ({"line_gap": 400}, r"bars crypto BTCUSDT: 88.24% of the rows are there.*To mend it: qraft data load --from"),
    ],
)  # fmt: skip
def test_full_mode_is_refused_with_the_verdict_and_the_commands_that_mend_it(tmp_path, gaps, said):
    fill(tmp_path, **gaps)

    with pytest.raises(ValueError, match=said):
        train(tmp_path)

    assert not (tmp_path / "artefacts" / "models").exists()
    assert not (tmp_path / "artefacts" / "snapshots").exists()


def test_production_mode_asks_for_420_days(ready):
    with pytest.raises(ValueError, match=r"mode production, crypto 2017-03-\d\d.*of the rows are there"):
        train(ready, mode="production")


def test_a_narrower_range_than_the_audit_s_is_refused(ready):
    with pytest.raises(ValueError, match="QRAFT_TRAIN_START=2018-02-01T00:00:00Z: leave it out"):
        train(ready, start=datetime(2018, 2, 1, tzinfo=UTC))


def test_snapshot_that_begins_later_than_the_window_is_refused_in_full_mode(ready):
    loader, request = loader_of(ready)
    narrow = dataclasses.replace(request, mode="line", start=datetime(2018, 2, 1, tzinfo=UTC))
    data, _ = asyncio.run(loader.load(narrow))

    with pytest.raises(ValueError, match=f"snapshot {data.snapshot_id} begins at 2018-02-01T00:00:00Z"):
        asyncio.run(loader.load(dataclasses.replace(request, snapshot_id=data.snapshot_id)))


def loader_of(home):
    settings = common(home)
    source = TrainingLake(
        ParquetLake(settings.lake), ParquetTables(settings.lake), ObjectArtefactStore(settings.artefacts), place="lake"
    )
    audits = LakeAudit(settings.lake, "crypto", "1h", "binance.perp")
    return DataLoader(source, audits), DataRequest("crypto", "1h", "binance.perp", ("funding_rate",), mode="full")


@dataclasses.dataclass
class AppendsAfter:
    """The audits of a lake, whose next bar arrives as soon as each is done."""

    audits: LakeAudit
    home: Path

    def ask(self, mode, window):
        audit = self.audits.ask(mode, window)
        lake = ParquetLake(self.home / "lake")
        library = DataLibrary(lake, ParquetTables(self.home / "lake"))
        put_bars(library, {"BTCUSDT": [1.0]}, market="crypto", interval="1h", closed_at=[TIMES[-1] + HOUR])
        lake.close()
        return audit


def test_lake_that_changes_between_audit_and_snapshot_is_tried_again_later(tmp_path):
    fill(tmp_path)
    loader, request = loader_of(tmp_path)
    before = loader.audits.ask("full", window_of("full", end=TIMES[-1]))

    with pytest.raises(Transient, match=r"bars/1h/crypto.*run again"):
        asyncio.run(dataclasses.replace(loader, audits=AppendsAfter(loader.audits, tmp_path)).load(request))

    data, audit = asyncio.run(loader.load(dataclasses.replace(request, end=TIMES[-1])))
    assert audit is not None and moved(audit, data.versions) == []
    assert moved(before, data.versions) == ["bars/1h/crypto"]


def test_snapshot_of_before_the_lake_changed_is_not_covered_by_an_audit_of_after_it(tmp_path):
    fill(tmp_path)
    loader, request = loader_of(tmp_path)
    data, _ = asyncio.run(loader.load(request))
    AppendsAfter(loader.audits, tmp_path).ask("full", window_of("full", end=TIMES[-1]))

    with pytest.raises(ValueError, match=f"bars/1h/crypto.* changed since snapshot {data.snapshot_id} was taken"):
        asyncio.run(loader.load(dataclasses.replace(request, snapshot_id=data.snapshot_id)))


def test_audit_for_training_gives_the_verdict_of_the_whole_audit_and_is_about_this_market_only(ready):
    audit = loader_of(ready)[0].audits.ask("full", window_of("full", end=TIMES[-1]))

    assert audit.ready and audit.n_required == 8
    assert {(it.kind, it.market) for it in audit.series} == {
        ("bars", "crypto"), ("funding", "binance.perp"), ("open_interest", "binance.perp"), ("basis", "binance.perp"),
    }  # fmt: skip
    assert refusal(audit, interval="1h") is None
    empty = msgspec.structs.replace(audit, ready=False, series=(), n_required=0, n_ready=0)
    assert "0 of 0: nothing is stored" in (refusal(empty, interval="1h") or "")


def test_line_mode_asks_no_audit_and_says_so(tmp_path):
    fill(tmp_path, kinds=())

    _, manifest = train(tmp_path, mode="line")

    assert manifest["readiness"] == {
        "mode": "line", "verdict": "not_asked", "start": "", "end": "", "audit": "", "audit_sha256": "",
    }  # fmt: skip
