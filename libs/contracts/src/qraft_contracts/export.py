"""
Export the JSON Schemas of all messages: `python -m qraft_contracts.export`.

The files beside this module are committed; a test compares them with the code and refuses a breaking change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from qraft_contracts import arrow_schemas as arrow
from qraft_contracts.billing import BILLING_COMMANDS, BillingReply
from qraft_contracts.imagejobs import ImageJobEvent
from qraft_contracts.ledger import LedgerEntry
from qraft_contracts.models import ModelDecision
from qraft_contracts.orders import Fill, Order
from qraft_contracts.signals import Signals
from qraft_contracts.targets import Targets
from qraft_contracts.usage import ComputeUsage

JSON_MESSAGES: Final[tuple[type[msgspec.Struct], ...]] = (
    Signals, Targets, Order, Fill, ModelDecision, ImageJobEvent, LedgerEntry, ComputeUsage,
    *BILLING_COMMANDS, BillingReply,
)  # fmt: skip
SCHEMAS: Final = Path(__file__).parent / "schemas"


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of every JSON message and the column list of every Arrow one, by `<name>/<major>`."""
    found: dict[str, dict[str, Any]] = {kind.SCHEMA: msgspec.json.schema(kind) for kind in JSON_MESSAGES}  # type: ignore[attr-defined]
    for name, columns, metadata in (
        (arrow.BARS_SCHEMA, arrow.BARS_COLUMNS, arrow.BARS_METADATA),
        (arrow.FEATURES_SCHEMA, arrow.FEATURES_COLUMNS, arrow.FEATURES_METADATA),
    ):
        found[name] = {
            "contentMediaType": "application/vnd.apache.arrow.stream",
            "columns": [{"name": column, "type": kind} for column, kind in columns],
            "metadata": list(metadata),
        }
    found[arrow.BARS_SCHEMA]["optional_columns"] = [
        {"name": column, "type": kind} for column, kind in arrow.BARS_STATE_COLUMNS
    ]
    return found


def schema_path(name: str) -> Path:
    """Return the committed file of a schema, such as `targets.1.json`."""
    return SCHEMAS / f"{name.replace('/', '.')}.json"


def main() -> None:
    """Write all schemas."""
    SCHEMAS.mkdir(exist_ok=True)
    for name, schema in json_schemas().items():
        schema_path(name).write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
