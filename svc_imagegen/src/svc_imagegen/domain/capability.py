"""What a provider is known to support, per model and operation. Unknown is a no where money is at stake."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Support(StrEnum):
    """unknown never sends a paid reference job."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


class Capability(msgspec.Struct, frozen=True):
    """
    One finding. feature: generation, edit, edit_multi, mask, variation, or a size/quality/format such as `size:auto`.

    evidence: how it is known: declared (by configuration, by a person), probed (job id), observed (job id).
    """

    provider: str
    model: str
    feature: str
    support: Support
    evidence: str
    found_at: datetime
