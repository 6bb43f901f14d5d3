"""What the edge needs to know of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from svc_imagegen.api.http import Call


@dataclass(frozen=True, slots=True)
class GatewayTerms:
    """
    Limits and windows of the edge.

    sync_window_s: how long a compatible call waits, below the stock client's 600 s. stream_window_s: how long a stream
    stays open, longer than a job may take. public_url: as clients reach us, "" = as the request names it.
    """

    sync_window_s: float = 590.0
    stream_window_s: float = 720.0
    keepalive_s: float = 5.0
    n_waiting_max: int = 512
    n_event_clients_max: int = 256
    body_bytes_max: int = 64 << 20
    bodies_bytes_max: int = 512 << 20  # all calls of the process together
    reference_bytes_max: int = 50_000_000
    references_max: int = 16
    pixels_max: int = 40_000_000
    public_url: str = ""


def base_url_of(call: Call, terms: GatewayTerms) -> str:
    """Return how clients reach us, without a slash at the end. A Host header only ever names the caller's own links."""
    return terms.public_url.rstrip("/") or f"http://{call.header(b'host')}"
