from __future__ import annotations

from tests.libs.bus.harness import QUICK, Recorder, subscription

from qraft_bus.asyncapi import asyncapi
from qraft_bus.nats import NatsBus


def test_document_names_what_the_buses_consume() -> None:
    features = NatsBus("nats://127.0.0.1:4222", name="svc_features", settings=QUICK)
    features.subscribe(subscription(Recorder(), subject="bars.5m", durable="svc_features"))
    allocator = NatsBus("nats://127.0.0.1:4222", name="svc_allocator", settings=QUICK)
    allocator.subscribe(subscription(Recorder(), subject="signals.*", durable="svc_allocator", schema="signals/1"))

    document = asyncapi([features, allocator])

    assert document["asyncapi"] == "3.0.0"
    assert {name: channel["address"] for name, channel in document["channels"].items()} == {
        "bars.5m:svc_features": "bars.5m",
        "signals.*:svc_allocator": "signals.*",
    }
    assert document["channels"]["bars.5m:svc_features"]["description"] == "schemas: bars/1"
