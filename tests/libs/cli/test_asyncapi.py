"""The AsyncAPI document covers the whole bus and holds together."""

import json
import re

from qraft_cli.asyncapi import build_asyncapi
from qraft_contracts.export import json_schemas
from qraft_contracts.flow import FLOW


def test_every_subject_and_schema_is_described():
    document = build_asyncapi()

    assert {channel["address"] for channel in document["channels"].values()} == {edge.subject for edge in FLOW}
    assert {edge.schema for edge in FLOW} == set(json_schemas())


def test_every_reference_resolves():
    document = build_asyncapi()

    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))

    assert references
    for reference in references:
        found = document
        for part in reference.split("/"):
            found = found[part]
