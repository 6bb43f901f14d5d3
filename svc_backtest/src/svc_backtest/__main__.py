"""Run with `python -m svc_backtest --model latest`."""

import sys

from svc_backtest.app import main

sys.exit(main())
