"""Dead letters: the original bytes, why they were refused, and when too many of them mean something else is wrong."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from qraft_bus.port import Delivery
from qraft_bus.settings import BusSettings
from qraft_contracts import headers
from qraft_contracts.subjects import dead_letter_subject

REASON: Final = "Qraft-Dead-Reason"
DETAIL: Final = "Qraft-Dead-Detail"
DURABLE: Final = "Qraft-Dead-Durable"
SUBJECT: Final = "Qraft-Dead-Subject"
STREAM_SEQ: Final = "Qraft-Dead-Stream-Seq"
MESSAGE_ID: Final = "Qraft-Dead-Message-Id"
DELIVERIES: Final = "Qraft-Dead-Deliveries"

_DETAIL_LENGTH_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class DeadLetterMessage:
    """A dead letter ready to publish."""

    subject: str
    data: bytes
    headers: dict[str, str]


def dead_letter(delivery: Delivery, *, durable: str, reason: str, detail: str) -> DeadLetterMessage:
    """
    Return the dead letter of a delivery: its bytes, its headers, and why.

    The id is made from where the message stands, so burying it again after a crash adds nothing. The server's own
    headers (Nats-…) are left out: they would be commands to the dead-letter stream.
    """
    kept = {name: value for name, value in delivery.headers.items() if not name.lower().startswith("nats-")}
    return DeadLetterMessage(
        subject=dead_letter_subject(delivery.stream),
        data=delivery.data,
        headers={
            **kept,
            headers.MESSAGE_ID: f"deadletter/{delivery.stream}/{durable}/{delivery.stream_seq}",
            REASON: reason,
            DETAIL: one_line(detail),
            DURABLE: durable,
            SUBJECT: delivery.subject,
            STREAM_SEQ: str(delivery.stream_seq),
            MESSAGE_ID: delivery.headers.get(headers.MESSAGE_ID, ""),
            DELIVERIES: str(delivery.n_delivered),
        },
    )


def one_line(text: str) -> str:
    """Return a text as a header's value: one line; control characters and other alphabets are escaped."""
    return text[:_DETAIL_LENGTH_MAX].encode("unicode_escape").decode("ascii")


class DeadLetterRatio:
    """
    Counts dead letters among the last messages.

    One broken message is that message's fault. When most of them are refused, a deployment or a schema is wrong, and
    moving the stream to the dead letters one by one would hide it.
    """

    def __init__(self, settings: BusSettings) -> None:
        self._settings = settings
        self._was_dead: deque[bool] = deque(maxlen=settings.dead_letter_window)

    def record(self, *, is_dead: bool) -> None:
        """Count one finished message."""
        self._was_dead.append(is_dead)

    def would_exceed(self) -> bool:
        """Return whether one more dead letter passes the allowed fraction."""
        seen = [*self._was_dead, True][-self._settings.dead_letter_window :]
        if len(seen) < self._settings.dead_letter_min:
            return False
        return sum(seen) / len(seen) > self._settings.dead_letter_frac_max
