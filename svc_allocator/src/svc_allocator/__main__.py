"""Run with `python -m svc_allocator`."""

from __future__ import annotations

import sys

from qraft_runtime.settings import CommonSettings
from svc_allocator.app import build
from svc_allocator.settings import AllocatorSettings

if __name__ == "__main__":
    sys.exit(build(CommonSettings(), AllocatorSettings()).run())
