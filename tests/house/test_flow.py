"""The table of who reads and writes what is what the services do, and the quant line has no way back."""

import re
from pathlib import Path

import pytest

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_bus.streams import subject_matches
from qraft_contracts.flow import CALLS, FLOW
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from svc_allocator.app import build as build_allocator
from svc_allocator.settings import AllocatorSettings
from svc_billing.app import build as build_billing
from svc_billing.settings import BillingSettings
from svc_execution.app import build as build_execution
from svc_execution.settings import ExecutionSettings
from svc_features.app import build as build_features
from svc_features.settings import FeaturesSettings
from svc_imagegen.app import build as build_imagegen
from svc_imagegen.settings import ImagegenSettings
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
        "svc_billing": build_billing(common, BillingSettings()).bus,
        "svc_imagegen": build_imagegen(common, ImagegenSettings()).bus,
    }


def _reads(bus):
    """Return every subject that a service takes messages from, with the schemas it accepts there."""
    return [(it.subject, it.schemas) for it in (*bus.subscriptions, *bus.works)]


def test_services_subscribe_to_what_the_table_says(buses):
    found = {
        (edge.subject, name)
        for name, bus in buses.items()
        for subject, _ in _reads(bus)
        for edge in FLOW
        if subject_matches(edge.subject, subject) or edge.subject == subject
    }

    assert found == {(edge.subject, reader) for edge in FLOW for reader in edge.readers}


def test_every_subscription_stands_in_the_table_with_its_schema(buses):
    for bus in buses.values():
        assert _reads(bus)
        for subject, accepted in _reads(bus):
            schemas = {
                edge.schema for edge in FLOW if edge.subject == subject or subject_matches(edge.subject, subject)
            }
            assert schemas == set(accepted)


def test_questions_are_answered_by_whom_the_table_says_and_by_nobody_else(buses):
    found = {(answerer.subject, name) for name, bus in buses.items() for answerer in bus.answerers}

    assert found == {(call.subject, call.answerer) for call in CALLS}
    # Every replica of the answerer joins one group, so that a question is answered once.
    queues = {(answerer.queue, name) for name, bus in buses.items() for answerer in bus.answerers}
    assert queues == {(call.answerer, call.answerer) for call in CALLS}


def test_questions_are_asked_by_whom_the_table_says():
    """The subjects of questions are named in the adapters of those who ask and of the one who answers, nowhere else."""
    asking = {call.answerer for call in CALLS} | {caller for call in CALLS for caller in call.callers}
    pattern = re.compile(r"ReserveCredits|SettleHold|VoidHold|bus\.request\(")
    found = {
        path.relative_to(ROOT).parts[0] for path in ROOT.glob("svc_*/src/**/*.py") if pattern.search(path.read_text())
    }

    assert found == asking


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
