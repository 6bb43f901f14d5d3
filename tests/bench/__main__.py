"""
Every figure of Qraft, measured in one run: `make bench`, or `python -m tests.bench PART ...` for some of the parts.

Parts: features, align, proof, inference, ledger, billing-bus, accept, compat, first-order, chain, store, state. Figures
are ratios to a yardstick measured in the same run.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from tests.bench.measure import data_folder, machine, temporary_home, verdict

FIRST_ORDER_S_MAX = 180.0


def main() -> int:
    """Run the named parts, or all."""
    parts: dict[str, Callable[[], None]] = {
        "features": importlib.import_module("tests.bench.features").main,
        "align": importlib.import_module("tests.bench.align").main,
        "proof": importlib.import_module("tests.bench.align").main_proof,
        "inference": importlib.import_module("tests.bench.inference").main,
        "ledger": importlib.import_module("tests.bench.ledger").main,
        "billing-bus": importlib.import_module("tests.bench.billing_bus").main,
        "accept": importlib.import_module("tests.bench.images").main_accept,
        "compat": importlib.import_module("tests.bench.images").main_compat,
        "first-order": first_order,
        "chain": chain,
        "store": importlib.import_module("tests.bench.store").main,
        "state": importlib.import_module("tests.bench.state").main,
    }
    chosen = sys.argv[1:] or list(parts)
    unknown = sorted(set(chosen) - set(parts))
    if unknown:
        print(f"expected parts out of {', '.join(parts)}, received {', '.join(unknown)}", file=sys.stderr)
        return 2
    for name in chosen:
        print(f"\n=== {name} ===", flush=True)
        parts[name]()
    return 0


def _first_run(home: Path, data: Path) -> float:
    """Run `qraft run` to its first paper order in a new home; return the seconds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QRAFT_")}
    environment |= {"QRAFT_HOME": str(home), "QRAFT_DATA": str(data)}
    started = time.monotonic()
    argv = [sys.executable, "-m", "qraft_cli", "run", "--no-view", "--until-order", "--speed", "5"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return time.monotonic() - started


def first_order() -> None:
    """Measure `make run` in a new home to the first paper order, installation aside."""
    data = data_folder()
    if data is None:
        print("SKIPPED: no real data; set QRAFT_DATA")
        return
    home = temporary_home()
    try:
        seconds = _first_run(home, data)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print("method: `qraft run` as `make run` starts it, new home, real bars, training included, until it has stopped")
    print(f"  {machine()}: {seconds:.0f} s, target {FIRST_ORDER_S_MAX:.0f} s: {verdict(seconds <= FIRST_ORDER_S_MAX)}")


def chain() -> None:
    """Measure the five services against the bare chain, with a model trained in this run."""
    data = data_folder()
    if data is None:
        print("SKIPPED: no real data; set QRAFT_DATA")
        return
    home = temporary_home()
    try:
        _first_run(home, data)
        listed = sorted((home / "artefacts" / "models").iterdir())
        manifest = msgspec.json.decode((listed[0] / "manifest.json").read_bytes())
        module = importlib.import_module("tests.bench.chain")
        module.run(data, manifest["model_id"], str(home / "artefacts"))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
