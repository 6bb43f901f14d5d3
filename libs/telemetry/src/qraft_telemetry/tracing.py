"""W3C trace context, as far as the bus needs it: one trace from a bar to its orders, a new span at each publish."""

from __future__ import annotations

import re
import secrets

_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})$")


def child_traceparent(parent: str | None) -> str:
    """
    Return a traceparent in the parent's trace, or in a new trace when there is no valid parent.

    Source: W3C Trace Context, level 1, section 3.2.
    """
    match = _TRACEPARENT.match(parent or "")
    trace_id, flags = match.groups() if match else (secrets.token_hex(16), "01")
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"
