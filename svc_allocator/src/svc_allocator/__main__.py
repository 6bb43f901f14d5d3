"""Run with `python -m svc_allocator`."""

from __future__ import annotations

import sys

from qraft_runtime.settings import CommonSettings
from qraft_runtime.wrong_settings import run_with_settings
from svc_allocator.app import build
from svc_allocator.settings import AllocatorSettings


def run() -> int:
    """Run the service by the environment until it is told to stop; return the exit code."""
    return build(CommonSettings(), AllocatorSettings()).run()


if __name__ == "__main__":
    sys.exit(run_with_settings("svc_allocator", run))
