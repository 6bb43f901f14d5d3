"""Features that read what is written need a proof of the pipeline whose rows stand in the tables."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from tests.libs.registry.kit import (
    FEATURES,
    NOW,
    QUERY,
    SIGNATURE,
    VERSIONS,
    proof_of,
    put_model,
    record_of,
    trained_on,
)
from tests.libs.registry.test_proofs import judge_record as _judge

from qraft_contracts.kinds import TEXT_MARKET, TEXT_SIGNATURE
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_contracts.snapshots import snapshot_id_of
from qraft_quant.proof.subjects import OHLCV, ProvenFeatures
from qraft_registry.artefacts import snapshot_input
from qraft_registry.memory import MemoryRegistryStore
from qraft_registry.proof_record import ProvenColumn, ProvenControl, TextData
from qraft_registry.proof_rules import TEXT_CONTROLS_REQUIRED, TEXT_KINDS_REQUIRED, text_shortfall
from qraft_registry.proving import prove_features
from qraft_registry.registry import Registry
from qraft_store.artefacts.memory import MemoryArtefactStore
from qraft_store.bars.port import BarPanel

READS_TEXTS = ("close", "text_heat", "news_sentiment")
TEXTS = {
    "inputs": READS_TEXTS,
    "texts": TextData(TEXT_SIGNATURE, 600, "7" * 64),
    "columns": (
        *proof_of().columns,
        *(ProvenColumn(kind, name, 24 if kind == "text_bucket" else 1, 20, ())
          for kind in TEXT_KINDS_REQUIRED for name in ("posts_heat_1h", "news_sentiment_24h")),
    ),
    "controls": (
        *proof_of().controls,
        *(ProvenControl(name, is_leak, 24, ("nan",) if is_leak else ())
          for name, is_leak in TEXT_CONTROLS_REQUIRED.items()),
    ),
}  # fmt: skip


def test_features_that_read_texts_pass_with_a_proof_of_their_pipeline() -> None:
    assert _judge(**TEXTS) is None
    assert _judge(inputs=("close", "vix")) is None


def _text_column(kind: str, name: str, **changes: Any) -> Any:
    return tuple(
        msgspec.structs.replace(it, **changes) if (it.kind, it.name) == (kind, name) else it for it in TEXTS["columns"]
    )


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("no_text_proof", {"texts": None}),
        ("no_text_proof", {"texts": None, "columns": proof_of().columns, "controls": proof_of().controls}),
        ("proof_of_other_texts", {"texts": TextData("0" * 64, 600, "7" * 64)}),
        ("incomplete_proof: text_bucket of ['posts_heat_24h']", {"inputs": (*READS_TEXTS, "text_heat_24h")}),
        *(
            ("incomplete_proof", {"columns": tuple(it for it in TEXTS["columns"] if it.kind != kind or " " in it.name)})
            for kind in TEXT_KINDS_REQUIRED
        ),
        *(
            ("proof_without_controls", {"controls": tuple(it for it in TEXTS["controls"] if it.name != name)})
            for name in TEXT_CONTROLS_REQUIRED
        ),
        ("proof_control_missed", {"controls": tuple(
            msgspec.structs.replace(it, caught_by=(), is_leak=False) if "later posts" in it.name else it
            for it in TEXTS["controls"])}),
        ("proof_failed", {"columns": _text_column("text_bucket", "posts_heat_1h", failures=("nan after 3",))}),
        ("proof_failed", {"columns": _text_column("text_warm_up", "posts_heat_1h", n_checks=0)}),
    ],
)  # fmt: skip
def test_features_that_read_texts_without_one_that_stands_are_refused(reason: str, changes: dict[str, Any]) -> None:
    found = _judge(**(TEXTS | changes))

    assert found is not None and found.startswith(reason)


def test_proof_of_texts_alone_needs_the_fit_of_a_reduction_too() -> None:
    fitted = (*TEXTS["columns"], ProvenColumn("normalizer", "posts_component_00_mean", 24, 3, ()))
    control = (*TEXTS["controls"], ProvenControl("components fitted on everything", True, 24, ("nan",)))
    record, fields = proof_of(**(TEXTS | {"columns": fitted, "controls": control})), ("posts_heat_1h",)

    assert text_shortfall(record, fields=fields) is None
    for changes, reason in (
        ({"columns": tuple(it for it in fitted if it.kind != "normalizer")}, "incomplete_proof"),
        ({"controls": TEXTS["controls"]}, "proof_without_controls"),
        ({"texts": None}, "no_text_proof"),
    ):
        assert str(text_shortfall(msgspec.structs.replace(record, **changes), fields=fields)).startswith(reason)


def test_features_that_read_texts_are_not_proven_without_whoever_proves_texts() -> None:
    reading = ProvenFeatures(FEATURES, SIGNATURE, (*OHLCV, "text_heat"), 24, lambda inputs, _: inputs["close"])
    ones = np.ones((3, 1))
    bars = BarPanel("crypto", "5m", Origin.REPLAY, ("A",), np.arange(3).astype("datetime64[us]"), *[ones] * 5)

    with pytest.raises(ValueError, match=r"prover of texts.*posts_heat_1h"):
        prove_features(bars, reading, seed=7)


FOREIGN = "text.000000000000"
_STATE = "tables/text_state"
_HEAT = {"metric": "text_state.posts_heat_1h", "market": TEXT_MARKET}
_DAY = {"metric": "text_state.posts_heat_24h", "market": TEXT_MARKET}
_FROM_QUERY_S = {"metric": "text_state.posts_heat_1h", "market": None}


@pytest.mark.parametrize(
    ("fields", "markets", "proof", "reason"),
    [
        ((_HEAT,), (TEXT_MARKET,), TEXTS, None),
        ((_HEAT,), (TEXT_MARKET,), TEXTS | {"inputs": ()}, None),
        ((_HEAT,), (TEXT_MARKET,), {"inputs": ()}, "no_text_proof"),
        ((_HEAT, _DAY), (TEXT_MARKET,), TEXTS, r"incomplete_proof: text_bucket of \['posts_heat_24h'\]"),
        ((), (TEXT_MARKET,), TEXTS, r"incomplete_proof: text_bucket of .* \(10 in all\)"),
        ((_HEAT | {"market": FOREIGN},), (FOREIGN,), {"inputs": ()}, f"texts_of_other_pipelines.*{FOREIGN}"),
        ((_HEAT,), (TEXT_MARKET, FOREIGN), TEXTS, f"texts_of_other_pipelines.*{FOREIGN}"),
        ((_FROM_QUERY_S,), (), TEXTS, r"texts_of_other_pipelines.*\['crypto'\]"),
    ],
)
async def test_model_of_a_snapshot_with_texts_needs_their_proof_whatever_the_record_says(
    fields: tuple[dict[str, str], ...], markets: tuple[str, ...], proof: dict[str, Any], reason: str | None
) -> None:
    query = QUERY | {"fields": [{"metric": "bars.close"}, *fields]}
    versions = VERSIONS | {f"{_STATE}/{market}": "x" for market in markets}
    snapshot_id, artefacts = snapshot_id_of(query, versions), MemoryArtefactStore()
    record = record_of(snapshot_id=snapshot_id, query=query, versions=versions)
    read = {"inputs": {snapshot_input(snapshot_id): Origin.REPLAY}}
    model_id = await put_model(
        artefacts, b"model", manifest={"data": trained_on(record, snapshot_id=snapshot_id)},
        evidence={"data_quality": read, "origin": read}, proof=proof_of(**proof), snapshot=record,
        snapshot_id=snapshot_id,
    )  # fmt: skip
    registry = Registry(store=MemoryRegistryStore(), artefacts=artefacts, now=lambda: NOW)
    await registry.register_candidate(model_id, actor="ann", reason="new")

    if reason is None:
        await registry.promote(model_id, actor="ann", reason="good")
    else:
        with pytest.raises(Refused, match=f"gate_failed: leakage: {reason}"):
            await registry.promote(model_id, actor="ann", reason="good")
