"""`imagejob.<transition>`: the life of one image job. No prompt and no picture in here: those have their own stores."""

from __future__ import annotations

import re
from datetime import datetime
from typing import ClassVar, Final

import msgspec

from qraft_contracts.origin import Origin

CREATED: Final = "created"
STARTED: Final = "started"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
UNCERTAIN: Final = "uncertain"
RESOLVED: Final = "resolved"
_PROVIDER_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")


class ImageJobEvent(msgspec.Struct, frozen=True):
    """
    One transition of one job, after it was stored.

    state: pending, running, succeeded, failed, uncertain, refund_failed or canceled. money: held, settling, settled,
    voiding, voided, disputing, disputed or refund_failed. Amounts are micro-credits. attempt counts from 1,
    0 before the first. asset_ids: of a succeeded job.
    """

    SCHEMA: ClassVar[str] = "imagejob/1"

    job_id: str
    account_id: str
    provider: str
    model: str
    operation: str
    transition: str
    state: str
    money: str
    held_microcredits: int
    charged_microcredits: int
    attempt: int
    at: datetime
    origin: Origin
    cause: str = ""  # code of the failure or uncertainty, else ""
    asset_ids: tuple[str, ...] = ()


def job_created_subject(provider: str) -> str:
    """
    Return the subject on which a provider's new jobs wait for its workers, such as `imagejob.created.openai`.

    Raises:
        ValueError: if the provider's id could not be one token of a subject.
    """
    if not _PROVIDER_ID.fullmatch(provider):
        raise ValueError(f"expected a provider id of 1 to 31 characters a-z, 0-9, _ or -, received {provider[:80]!r}")
    return f"imagejob.created.{provider}"


def job_subject(transition: str) -> str:
    """Return the subject of a later transition, such as `imagejob.succeeded`."""
    if transition not in (STARTED, SUCCEEDED, FAILED, UNCERTAIN, RESOLVED):
        raise ValueError(f"expected started, succeeded, failed, uncertain or resolved, received {transition!r}")
    return f"imagejob.{transition}"
