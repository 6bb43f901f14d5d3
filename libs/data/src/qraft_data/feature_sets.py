"""Feature sets by name or by file: what a setting or a command names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from qraft_quant.features import SETS, FeatureSet, feature_set
from qraft_quant.features.sets.written import LENGTH_MAX, written_set

SUFFIXES: Final = (".toml", ".json")


def named_feature_set(name: str) -> FeatureSet:
    """
    Return the registered set of a name, or the set written in a file: a path that ends in .toml or .json.

    What is written, and how: qraft_quant.features.sets.written. The signature covers the features, not the file.

    Raises:
        ValueError: if there is no such set or file, or the file holds none; the message says what to change.
    """
    path = Path(name)
    if path.suffix not in SUFFIXES:
        try:
            return feature_set(name)
        except ValueError as error:
            raise ValueError(f"{error}, or a file that ends in {' or '.join(SUFFIXES)}") from error
    try:
        with path.open("rb") as file:
            text = file.read(4 * LENGTH_MAX + 1).decode()  # a character takes four bytes at most
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a file with features at {name}: {error}") from error
    try:
        return written_set(text, registered=SETS, is_json=path.suffix == ".json")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
