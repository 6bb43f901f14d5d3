"""
Run by the interpreter that has pyqlib: the values per second of its Alpha158 expressions over bars of a folder.

argv: folder with open, high, low, close, volume as .npy (n_bars, n_symbols), float64. Prints one JSON line.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROUNDS = 2


def write_provider(folder: Path, bars: dict[str, np.ndarray]) -> list[str]:
    """Write bars as Qlib keeps them: a calendar, a list of instruments, one float32 file a field and instrument."""
    n_bars, n_symbols = bars["close"].shape
    days = np.datetime64("1900-01-01") + np.arange(n_bars)
    (folder / "calendars").mkdir(parents=True)
    (folder / "instruments").mkdir()
    (folder / "calendars" / "day.txt").write_text("\n".join(str(day) for day in days) + "\n")
    names = [f"SYM{s:03d}" for s in range(n_symbols)]
    lines = [f"{name}\t{days[0]}\t{days[-1]}" for name in names]
    (folder / "instruments" / "all.txt").write_text("\n".join(lines) + "\n")
    fields = bars | {"vwap": (bars["high"] + bars["low"] + bars["close"]) / 3}
    for s, name in enumerate(names):
        (folder / "features" / name.lower()).mkdir(parents=True)
        for field, values in fields.items():
            data = np.concatenate([[0.0], values[:, s]]).astype("<f4")
            data.tofile(folder / "features" / name.lower() / f"{field}.day.bin")
    return names


def main() -> None:
    """Time the expression engine with its own workers and without its cache, best of the rounds."""
    source = Path(sys.argv[1])
    bars = {name: np.load(source / f"{name}.npy") for name in ("open", "high", "low", "close", "volume")}
    with tempfile.TemporaryDirectory() as folder:
        names = write_provider(Path(folder), bars)
        import qlib
        from qlib.contrib.data.loader import Alpha158DL
        from qlib.data import D

        qlib.init(provider_uri=folder, kernels=os.cpu_count(), logging_level=40, expression_cache=None,
                  dataset_cache=None)  # fmt: skip
        fields, _ = Alpha158DL.get_feature_config()
        best, shape = float("inf"), (0, 0)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            frame = D.features(names, fields, freq="day", disk_cache=0)
            best, shape = min(best, time.perf_counter() - started), frame.shape
    print(json.dumps({"seconds": best, "rows": shape[0], "columns": shape[1]}))


if __name__ == "__main__":
    main()
