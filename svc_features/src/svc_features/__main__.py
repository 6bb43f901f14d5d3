"""Run with `python -m svc_features`."""

from __future__ import annotations

import sys

from qraft_runtime.settings import CommonSettings
from svc_features.app import build
from svc_features.settings import FeaturesSettings

if __name__ == "__main__":
    sys.exit(build(CommonSettings(), FeaturesSettings()).run())
