"""
What may come of calling a provider, sorted by what it means for money.

Raised by provider adapters and by picture verification; the worker decides nothing by text or status, only by these.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class ProviderOutcome(Exception):
    """Base. cause: snake_case code, stable; detail: for the job's owner, without secrets or provider internals."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
        self.detail = detail


class NotDelivered(ProviderOutcome):
    """The request certainly never reached the provider (name, connection, TLS). Safe to send again."""


class Throttled(ProviderOutcome):
    """The provider said to come back (429). Nothing was made; wait retry_after_s, then send again."""

    def __init__(self, cause: str, detail: str = "", *, retry_after_s: float) -> None:
        super().__init__(cause, detail)
        self.retry_after_s = retry_after_s


class Rejected(ProviderOutcome):
    """The provider said no for good (4xx, content policy). Not charged, not retried. param: the field at fault."""

    def __init__(self, cause: str, detail: str = "", *, param: str | None = None) -> None:
        super().__init__(cause, detail)
        self.param = param


class Uncertain(ProviderOutcome):
    """The provider may have made, and charged for, the pictures: 5xx, timeout, cut connection. Never sent again."""

    def __init__(self, cause: str, detail: str = "", *, provider_request_id: str | None = None) -> None:
        super().__init__(cause, detail)
        self.provider_request_id = provider_request_id


class BadPicture(ProviderOutcome):
    """The provider answered 200, and what came is no picture, not the asked one, or a danger. Not charged."""


@dataclass(frozen=True, slots=True)
class RawPicture:
    """Bytes as the provider gave them; unverified."""

    data: bytes
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """
    A provider's success, unverified. May hold fewer pictures than were asked for, never more.

    cost_microusd: as told by the provider, None = not told. usage: its own counters, kept as evidence.
    """

    pictures: tuple[RawPicture, ...]
    provider_request_id: str | None = None
    cost_microusd: int | None = None
    usage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a provider knows of an earlier call. status: succeeded (with answer) | failed | running | unknown."""

    status: str
    answer: ProviderAnswer | None = None
    detail: str = ""
