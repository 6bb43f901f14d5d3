"""The operator's commands on features: list, show, prove, compute."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.origin import Origin, worst_origin
from qraft_contracts.outcomes import Malformed, Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_quant.features import OPERATORS, FeatureSet, FeatureSpec, compute_history
from qraft_registry.proof_record import ProofRecord
from qraft_store.bars.port import BarPanel, BarStore
from qraft_store.files import write_whole
from svc_features.usecases import Inputs, StateTables, bars_for, inputs_of, state_for

EXIT_NOT_PROVEN: Final = 3
_N_THREADS: Final = 2
_ORIGIN_KEY: Final = b"qraft.origin"


def list_features(features: FeatureSet, *, interval: str, family: str | None) -> int:
    """
    Print name, family, window and formula of each feature of a set, and the set's signature.

    Raises:
        Malformed: if there is no such family; the message lists them.
    """
    families = sorted({it.family for it in features.features})
    if family is not None and family not in families:
        raise Malformed("unknown_family", f"expected one of {', '.join(families)}, received {family}")
    wanted = [it for it in features.features if family in (None, it.family)]
    width = max(len(it.name) for it in wanted)
    for it in wanted:
        sys.stdout.write(f"{it.name:<{width}}  {it.family:<12}  {it.window:>5}  {it.formula}\n")
    sys.stderr.write(
        f"{len(wanted)} of {len(features.features)} features of {features.name} on {interval} bars, "
        f"signature {features.signature(interval)}\n"
    )
    return 0


def show_feature(features: FeatureSet, name: str) -> int:
    """
    Print everything that the signature of one feature covers, as JSON.

    Raises:
        Refused: if the set has no such feature; the message names those that are spelled alike.
    """
    found = next((it for it in features.features if it.name == name), None)
    if found is None:
        alike = [it.name for it in features.features if name.split("_")[0] in it.name][:12]
        raise Refused("no_feature", f"expected a feature of {features.name} such as {', '.join(alike) or 'return_1'}, "
                      f"received {name}; `qraft features list` names all")  # fmt: skip
    sys.stdout.write(json.dumps(_description(found), indent=2) + "\n")
    return 0


def list_operators() -> int:
    """Print every operator with its formula, its signature and the JSON Schema of its parameters."""
    for name, operator in OPERATORS.items():
        parameters = json.dumps(operator.parameters) if operator.parameters else ""
        sys.stdout.write(f"{name}({', '.join((*operator.series, *operator.parameters))})  {operator.formula}\n")
        sys.stdout.write(
            f"    version {operator.version}, signature {operator.signature}  {parameters}".rstrip() + "\n"
        )
    return 0


def report_proof(record: ProofRecord, *, key: str, is_new: bool, fault: str | None) -> int:
    """Print what a proof found; 3 = it does not stand."""
    sys.stdout.write(
        json.dumps(
            {"event": "features.proven", "proof": key, "is_new": is_new, "fault": fault,
             "n_columns": len(record.columns), "n_controls": len(record.controls)}
        ) + "\n"
    )  # fmt: skip
    return 0 if fault is None else EXIT_NOT_PROVEN


def compute(
    bars: BarStore, features: FeatureSet, state: StateTables | None, *,
    market: str, interval: str, start: datetime, end: datetime, out: Path,
) -> int:  # fmt: skip
    """
    Write the features of stored bars as Parquet (closed_at, symbol, one column a feature) and print their SHA-256.

    The rows before `start` that the windows need are read too, so that the first row is final where they are stored.

    Args:
        state: whose funding, open interest, … the features read beside the bars; None = none.

    Raises:
        Refused: if the range holds no bar, or too many for the memory.
        Malformed: if a table of the state is damaged, or that is no name of a market.
    """
    warm_up = timedelta(seconds=features.warm_up_bars * INTERVAL_SECONDS[interval])
    panel = bars_for(
        bars, market=market, interval=interval, start=start - warm_up, end=end, n_features=len(features.names)
    )  # fmt: skip
    beside = state_for(features, panel, state)
    origin = worst_origin([panel.origin, *beside.origins])
    matrix = _matrix(panel, inputs_of(panel, beside), features)
    wanted = panel.closed_at > np.datetime64(start.replace(tzinfo=None), "us")
    matrix = np.ascontiguousarray(matrix[wanted])
    if matrix.shape[0] == 0:
        raise Refused("no_bars", f"expected {interval} bars of {market} after {start.isoformat()}, found none")
    table = _table(panel, panel.closed_at[wanted], matrix, features, origin)
    write_whole(out, lambda file: pq.write_table(table, file, compression="zstd"))
    sys.stdout.write(
        json.dumps(
            {"event": "features.computed", "file": str(out), "n_rows": matrix.shape[0] * matrix.shape[1],
             "n_features": matrix.shape[2], "origin": origin.value, "signature": features.signature(interval),
             "known_frac": round(float(np.isfinite(matrix).mean()), 6),
             "sha256": hashlib.sha256(matrix.tobytes()).hexdigest()}
        ) + "\n"
    )  # fmt: skip
    return 0


def _matrix(panel: BarPanel, inputs: Inputs, features: FeatureSet) -> npt.NDArray[np.float32]:
    first_s = int(panel.closed_at[0].astype("datetime64[s]").astype(np.int64))
    return compute_history(
        inputs,
        first_s // INTERVAL_SECONDS[panel.interval],
        features=features,
        interval=panel.interval,
        n_threads=_N_THREADS,
    )


def _table(
    panel: BarPanel, closed_at: npt.NDArray[np.datetime64], matrix: npt.NDArray[np.float32], features: FeatureSet,
    origin: Origin,
) -> pa.Table:  # fmt: skip
    n_bars, n_symbols, _ = matrix.shape
    times = pa.array(np.repeat(closed_at, n_symbols)).cast(pa.timestamp("us", tz="UTC"))
    columns = {"closed_at": times, "symbol": pa.array(list(panel.symbols) * n_bars)}
    columns |= {name: pa.array(matrix[:, :, i].ravel()) for i, name in enumerate(features.names)}
    about = {_ORIGIN_KEY: origin.value, b"qraft.signature": features.signature(panel.interval)}
    return pa.table(columns).replace_schema_metadata(about)


def _description(found: FeatureSpec) -> dict[str, object]:
    return {**found.content, "inputs": sorted(found.inputs), "signature": found.signature}
