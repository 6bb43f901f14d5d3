from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qraft_bus.streams import STREAMS, stream_of, subject_matches
from qraft_contracts import subjects
from qraft_contracts.imagejobs import job_created_subject, job_subject
from qraft_contracts.ledger import ledger_subject
from qraft_contracts.usage import USAGE_COMPUTE


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        (subjects.bars_subject("5m"), "BARS"),
        (subjects.FEATURES_READY, "FEATURES"),
        (subjects.signals_subject("1h"), "SIGNALS"),
        ("signals.*", "SIGNALS"),
        (subjects.TARGETS_PAPER, "TARGETS"),
        (subjects.ORDERS_PAPER, "EXECUTION"),
        (subjects.FILLS_PAPER, "EXECUTION"),
        (subjects.MODELS_REFUSED, "MODELS"),
        (job_created_subject("openai"), "IMAGEJOBS"),
        (job_subject("succeeded"), "IMAGEJOBS"),
        (ledger_subject("acme"), "LEDGER"),
        (USAGE_COMPUTE, "USAGE"),
        (subjects.dead_letter_subject("BARS"), "DEADLETTER"),
    ],
)
def test_every_subject_of_the_contracts_has_its_stream(subject: str, stream: str) -> None:
    assert stream_of(subject) == stream


@pytest.mark.parametrize("subject", ["", "bar.5m", "*.5m", ">"])
def test_subject_without_a_stream_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="expected a subject below"):
        stream_of(subject)


def test_streams_share_no_subject_and_fit_on_a_small_disk() -> None:
    roots = [subject for spec in STREAMS for subject in spec.subjects]

    assert len(roots) == len(set(roots))
    assert sum(spec.max_bytes for spec in STREAMS) <= 5 << 30  # reserved on the server when the streams are made


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("bars.5m", "bars.5m", True),
        ("bars.5m", "bars.1m", False),
        ("bars.*", "bars.5m", True),
        ("bars.*", "bars", False),
        ("bars.*", "bars.5m.x", False),
        ("bars.>", "bars.5m.x", True),
        ("bars.>", "bars", False),
        ("*.5m", "bars.5m", True),
        (">", "bars", True),
    ],
)
def test_wildcards_match_as_on_the_server(pattern: str, subject: str, matches: bool) -> None:
    assert subject_matches(pattern, subject) is matches


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=3), min_size=1, max_size=5))
def test_subject_matches_itself_and_its_wildcards(tokens: list[str]) -> None:
    subject = ".".join(tokens)

    assert subject_matches(subject, subject)
    assert subject_matches(".".join("*" * len(tokens)), subject)
    assert subject_matches(".".join([*tokens[:-1], ">"]), subject)
    assert not subject_matches(f"{subject}.more", subject)
