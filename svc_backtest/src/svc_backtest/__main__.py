"""Run with `python -m svc_backtest --model latest`."""

import sys

from qraft_runtime.wrong_settings import run_with_settings
from svc_backtest.app import main

sys.exit(run_with_settings("svc_backtest", main))
