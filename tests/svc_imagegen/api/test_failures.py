"""What people read: every cause × money state in one sentence each, and no cause that the code raises is missing."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest
from tests.svc_imagegen.jobs.kit import make_job

import svc_imagegen
from svc_imagegen.api.errors import _FACES, job_error
from svc_imagegen.domain.failures import CAUSES, Kind, cause_of, credits_text, job_text, money_text
from svc_imagegen.domain.job import JobState, Money

RAISED = ("NotDelivered", "Throttled", "Rejected", "Uncertain", "BadPicture")
EFFECTS = {
    Money.HELD: "40 credits held.",
    Money.SETTLING: "40 credits held, being charged.",
    Money.SETTLED: "Charged 30 credits.",
    Money.VOIDING: "Not charged; 40 credits being returned.",
    Money.VOIDED: "Not charged.",
    Money.DISPUTING: "40 credits held, checking.",
    Money.DISPUTED: "40 credits held, checking.",
    Money.REFUND_FAILED: "Not charged; returning 40 credits has failed so far and is tried again.",
}


@pytest.mark.parametrize("money", list(Money))
def test_money_effect_is_the_stated_sentence(money):
    assert money_text(money, held_microcredits=40_000_000, charged_microcredits=30_000_000) == EFFECTS[money]


@pytest.mark.parametrize(("cause", "money"), list(itertools.product([*CAUSES, "never_heard_of"], Money)))
def test_every_failure_says_its_cause_and_its_money_effect_in_one_sentence_each(cause, money):
    is_told = money in (Money.VOIDING, Money.VOIDED, Money.DISPUTING, Money.DISPUTED, Money.REFUND_FAILED)

    text = job_text(
        JobState.FAILED, cause=cause, money=money, held_microcredits=40_000_000, charged_microcredits=30_000_000
    )

    assert text == (f"{cause_of(cause).sentence} {EFFECTS[money]}" if is_told else EFFECTS[money])
    assert re.fullmatch(r"[A-Z][^.]*\.", cause_of(cause).sentence)
    assert "%" not in text


def test_free_picture_that_came_late_is_told_as_not_charged_and_not_as_a_failure():
    text = job_text(
        JobState.SUCCEEDED, cause="timeout", money=Money.VOIDED, held_microcredits=40, charged_microcredits=0
    )

    assert text == "Not charged."


@pytest.mark.parametrize(
    ("microcredits", "text"),
    [
        (0, "0"),
        (1, "0.000001"),
        (40_000_000, "40"),
        (1_500_000, "1.5"),
        (-40_000, "-0.04"),
        (10**24 + 10, "1" + "0" * 18 + ".00001"),
    ],
)
def test_amounts_are_exact_decimal_texts(microcredits, text):
    assert credits_text(microcredits) == text


def test_every_cause_that_the_service_raises_has_a_sentence():
    raised = set()
    for path in Path(svc_imagegen.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED and node.args:
                raised |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
            elif isinstance(node, ast.keyword) and node.arg == "cause" and isinstance(node.value, ast.Constant):
                raised |= {node.value.value}

    at_the_edge = {"invalid_image_url", "failed_to_download_image"}  # refusals of references, before there is a job
    assert len(raised) > 20
    assert raised - {""} - at_the_edge - set(CAUSES) == set()


def test_every_kind_of_no_has_a_status():
    assert set(_FACES) == set(Kind)


@pytest.mark.parametrize(("cause", "state"), list(itertools.product(["", *CAUSES], JobState)))
def test_job_that_did_not_succeed_never_answers_with_a_success(cause, state):
    status, body = job_error(make_job(state=state, cause=cause, money=Money.VOIDED))

    assert status >= 400
    assert body.code


@pytest.mark.parametrize(
    ("state", "cause", "status", "code"),
    [
        (JobState.RUNNING, "", 504, "job_still_running"),
        (JobState.UNCERTAIN, "timeout", 502, "outcome_uncertain"),
        (JobState.FAILED, "content_policy", 400, "moderation_blocked"),
        (JobState.FAILED, "throttled", 503, "throttled"),
        (JobState.FAILED, "timeout", 502, "timeout"),
        (JobState.REFUND_FAILED, "bad_picture", 502, "refund_failed"),
        (JobState.CANCELED, "canceled", 409, "job_canceled"),
    ],
)
def test_state_and_cause_decide_the_status(state, cause, status, code):
    found, body = job_error(make_job(state=state, cause=cause, money=Money.VOIDED))

    assert (found, body.code) == (status, code)
