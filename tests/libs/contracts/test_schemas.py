"""The committed schemas are those of the code, and a breaking change is caught."""

import copy
import json

import pytest

from qraft_contracts.compatibility import breaking_changes
from qraft_contracts.export import json_schemas, schema_path

SCHEMAS = json_schemas()


@pytest.mark.parametrize("name", SCHEMAS)
def test_committed_schema_is_what_the_code_exports(name):
    committed = json.loads(schema_path(name).read_text())

    assert committed == json.loads(json.dumps(SCHEMAS[name])), "run `make docs` after an addition"


@pytest.mark.parametrize("name", SCHEMAS)
def test_code_breaks_no_committed_schema(name):
    committed = json.loads(schema_path(name).read_text())

    assert breaking_changes(committed, SCHEMAS[name]) == []


def _order_schema():
    return copy.deepcopy(SCHEMAS["orders/1"])


def test_added_optional_field_is_no_breaking_change():
    new = _order_schema()
    new["$defs"]["Order"]["properties"]["note"] = {"type": "string", "default": ""}

    assert breaking_changes(_order_schema(), new) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda o: o["properties"].pop("side"), "Order.side is gone"),
        (lambda o: o["properties"].update(quantity={"type": "string"}), "Order.quantity changed its type"),
        (
            lambda o: (o["properties"].update(venue={"type": "string"}), o["required"].append("venue")),
            "Order.venue became required",
        ),
        (lambda o: o["required"].remove("side"), "Order.side became optional"),
    ],
)
def test_breaking_change_is_named(change, expected):
    new = _order_schema()
    change(new["$defs"]["Order"])

    assert expected in breaking_changes(_order_schema(), new)


def test_reordered_arrow_columns_are_a_breaking_change():
    new = copy.deepcopy(SCHEMAS["bars/1"])
    new["columns"].reverse()

    assert breaking_changes(SCHEMAS["bars/1"], new) == ["the leading columns changed"]


def test_state_columns_may_be_added_but_none_may_go_or_change():
    old, new = SCHEMAS["bars/1"], copy.deepcopy(SCHEMAS["bars/1"])
    new["optional_columns"].append({"name": "moon_phase", "type": "float64"})
    assert breaking_changes(old, new) == []

    new["optional_columns"][0] = {"name": "funding_rate", "type": "utf8"}
    del new["optional_columns"][1]
    assert breaking_changes(old, new) == [
        "optional column funding_rate changed its type", "optional column open_interest_usd is gone",
    ]  # fmt: skip


def test_first_state_columns_are_those_of_the_first_messages_that_had_any():
    names = [column["name"] for column in SCHEMAS["bars/1"]["optional_columns"]]

    assert names[:6] == [
        "funding_rate", "open_interest_usd", "basis_frac", "long_short_ratio", "taker_buy_volume", "taker_sell_volume",
    ]  # fmt: skip
