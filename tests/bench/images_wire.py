"""The little of HTTP/1.1 that the load generator and the trivial upstream speak: whole messages on kept connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message. first: its first line."""

    first: bytes
    body: bytes


class Messages:
    """Cuts a connection's bytes into messages. Bodies have a Content-Length, or there is none."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are whole now."""
        self._data += data
        found: list[Message] = []
        while (end := self._data.find(_END_OF_HEAD)) >= 0:
            head, at = self._data[:end], end + len(_END_OF_HEAD)
            until = at + _length(head)
            if len(self._data) < until:
                break
            found.append(Message(head.partition(b"\r\n")[0], self._data[at:until]))
            self._data = self._data[until:]
        return found


def _length(head: bytes) -> int:
    low = head.lower()
    assert b"transfer-encoding" not in low, "expected a Content-Length, received chunks"
    at = low.find(_LENGTH)
    return int(low[at + len(_LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0
