"""The table of who reads and writes what is what the services do, and the quant line has no way back."""

import re
from pathlib import Path

import pytest

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_bus.streams import subject_matches
from qraft_contracts.flow import FLOW
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from svc_allocator.app import build as build_allocator
from svc_allocator.settings import AllocatorSettings
from svc_execution.app import build as build_execution
from svc_execution.settings import ExecutionSettings
from svc_features.app import build as build_features
from svc_features.settings import FeaturesSettings
from svc_inference.app import build as build_inference
from svc_inference.settings import InferenceSettings

ROOT = Path(__file__).parents[2]
ORDER = ("svc_ingest", "svc_features", "svc_inference", "svc_allocator", "svc_execution")


@pytest.fixture
def buses(tmp_path):
    common = CommonSettings(home=tmp_path)
    inference = NatsBus(common.nats_url, name="svc_inference", settings=BusSettings())
    build_inference(common, InferenceSettings(), bus=inference, clock=SystemClock())
    return {
        "svc_features": build_features(common, FeaturesSettings()).bus,
        "svc_allocator": build_allocator(common, AllocatorSettings()).bus,
        "svc_execution": build_execution(common, ExecutionSettings()).bus,
        "svc_inference": inference,
    }


def test_services_subscribe_to_what_the_table_says(buses):
    found = {
        (edge.subject, name)
        for name, bus in buses.items()
        for subscription in bus.subscriptions
        for edge in FLOW
        if subject_matches(edge.subject, subscription.subject) or edge.subject == subscription.subject
    }

    assert found == {(edge.subject, reader) for edge in FLOW for reader in edge.readers}


def test_every_subscription_stands_in_the_table_with_its_schema(buses):
    for bus in buses.values():
        assert bus.subscriptions
        for subscription in bus.subscriptions:
            schemas = {
                edge.schema
                for edge in FLOW
                if edge.subject == subscription.subject or subject_matches(edge.subject, subscription.subject)
            }
            assert schemas == set(subscription.schemas)


def test_the_line_has_no_way_back():
    for edge in FLOW:
        for writer in set(edge.writers) & set(ORDER):
            for reader in edge.readers:
                assert ORDER.index(writer) < ORDER.index(reader), f"{reader} feeds back into {writer}"


def test_there_is_no_path_to_a_real_venue():
    """Nothing in the services can place an order anywhere: only svc_ingest knows exchanges, and only reads."""
    pattern = re.compile(r"create_order|createOrder|api_?key|secret|withdraw|private_", re.I)
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for folder in ("svc_ingest", "svc_execution", "svc_allocator", "libs/quant")
        for path in (ROOT / folder).rglob("*.py")
        for match in pattern.finditer(path.read_text())
    ]

    assert found == []
