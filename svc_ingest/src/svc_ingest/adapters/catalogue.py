"""The catalogue of data sets as a file: ours beside this module, or a person's own."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from qraft_contracts.outcomes import Malformed
from svc_ingest.domain.datasets import Catalogue, Dataset, check_catalogue

OURS: Final = Path(__file__).with_name("catalogue.toml")


def read_catalogue(path: Path) -> Catalogue:
    """
    Return the data sets of a catalogue file.

    Raises:
        Malformed: if there is no such file, it is no TOML, or a data set in it cannot be.
    """
    try:
        catalogue = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Catalogue)
    except OSError as error:
        raise Malformed("no_catalogue", f"expected a catalogue in {path}: {error}") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Malformed("bad_catalogue", f"expected the form of {OURS.name} in {path}: {error}") from error
    check_catalogue(catalogue)
    return catalogue


def fingerprint(dataset: Dataset) -> str:
    """Return what changes when the rules of a data set change."""
    return hashlib.sha256(msgspec.json.encode(dataset)).hexdigest()[:16]
