"""Loopback ports for the local stack: the usual one where it is free, else any free one."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Return whether nothing listens on the loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a loopback port that nobody listens on right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def pick_port(preferred: int, *, taken: set[int]) -> int:
    """Return the preferred port if it is free, else one that the system gives; `taken` grows by it."""
    port = preferred if preferred not in taken and is_free(preferred) else free_port()
    taken.add(port)
    return port
