"""The AsyncAPI document covers the whole bus and holds together."""

import json
import re

from qraft_cli.asyncapi import build_asyncapi
from qraft_contracts.billing import BillingReply
from qraft_contracts.export import json_schemas
from qraft_contracts.flow import CALLS, FLOW


def test_every_subject_and_schema_is_described():
    document = build_asyncapi()

    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses - {None} == {edge.subject for edge in FLOW} | {call.subject for call in CALLS}
    assert {edge.schema for edge in FLOW} | {call.schema for call in CALLS} | {BillingReply.SCHEMA} == set(
        json_schemas()
    )


def test_every_question_has_an_answerer_and_a_place_for_the_answer():
    operations = build_asyncapi()["operations"]

    for call in CALLS:
        answer = operations[f"{call.answerer}-answers-{call.subject.replace('.', '-')}"]
        assert answer["action"] == "receive"
        assert answer["reply"]["channel"] == {"$ref": "#/channels/replies"}
        for caller in call.callers:
            assert operations[f"{caller}-asks-{call.subject.replace('.', '-')}"]["action"] == "send"


def test_every_reference_resolves():
    document = build_asyncapi()

    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))

    assert references
    for reference in references:
        found = document
        for part in reference.split("/"):
            found = found[part]
