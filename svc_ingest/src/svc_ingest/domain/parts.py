"""What a reader takes out of a file: tables by name, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Torn:
    """A line or record that is not what its format promises, as it was received."""

    row: int
    reason: str
    received: str


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a file, in its order. name: `rows`, or which of several tables. first_row: number in the file."""

    name: str
    table: pa.Table
    first_row: int
    torn: tuple[Torn, ...] = ()
