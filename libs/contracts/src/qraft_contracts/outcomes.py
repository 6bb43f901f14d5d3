"""
The three named ways in which handling a message may fail; anything else is a bug and surfaces.

Decided where they are raised, acted on by the bus: Malformed → dead letter at once, Transient → bounded retry
with backoff, Refused → told and counted, never retried.
"""

from __future__ import annotations


class Outcome(Exception):
    """Base of the named outcomes. `reason` is a short snake_case code, stable for counters."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Malformed(Outcome):
    """The bytes are not what their schema promises. Retrying cannot help."""


class Transient(Outcome):
    """Something outside is briefly away. The same call may succeed later."""


class Refused(Outcome):
    """A rule said no. The caller is told; nobody is paged."""
