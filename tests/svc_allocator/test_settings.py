"""Settings: standard cannot be changed, demo can, risk limits only get tighter."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from qraft_quant.allocation import DEMO, STANDARD
from svc_allocator.settings import AllocatorSettings


def test_standard_is_the_default_and_knows_no_thresholds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QRAFT_ALLOCATOR_DEMO_SCORE_MIN", '{"7d": 0.001}')
    monkeypatch.setenv("QRAFT_ALLOCATOR_SCORE_MIN", '{"7d": 0.001}')

    assert AllocatorSettings().limits == STANDARD


def test_demo_takes_some_thresholds_from_the_environment_and_keeps_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QRAFT_ALLOCATOR_PROFILE", "demo")
    monkeypatch.setenv("QRAFT_ALLOCATOR_DEMO_SCORE_MIN", '{"7d": 0.001}')
    monkeypatch.setenv("QRAFT_ALLOCATOR_DEMO_EDGE_MIN", "-0.002")

    limits = AllocatorSettings().limits

    assert limits.profile == "demo" and limits.edge_min == -0.002
    assert limits.score_min == {**DEMO.score_min, "7d": 0.001}


def test_risk_limits_may_be_tightened(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QRAFT_ALLOCATOR_SYMBOL_CAP", "0.1")
    monkeypatch.setenv("QRAFT_ALLOCATOR_BUCKET_CAPS", '{"trend": 0.2}')

    limits = AllocatorSettings().limits

    assert limits.symbol_cap == 0.1 and limits.bucket_caps == {**STANDARD.bucket_caps, "trend": 0.2}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SYMBOL_CAP", "0.21"),
        ("GROSS_MAX", "1.5"),
        ("RISK_BUDGET", "0.7"),
        ("CORRELATION_MAX", "0.95"),
        ("BUCKET_CAPS", '{"trend": 0.6}'),
        ("BUCKET_CAPS", '{"momentum": 0.1}'),
        ("PROFILE", "mine"),
    ],
)
def test_looser_or_unknown_limits_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(f"QRAFT_ALLOCATOR_{name}", value)

    with pytest.raises(ValidationError):
        AllocatorSettings()


def test_a_demo_threshold_of_an_unknown_horizon_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QRAFT_ALLOCATOR_PROFILE", "demo")
    monkeypatch.setenv("QRAFT_ALLOCATOR_DEMO_SCORE_MIN", '{"2h": 0.1}')

    with pytest.raises(ValidationError, match="2h"):
        AllocatorSettings()
