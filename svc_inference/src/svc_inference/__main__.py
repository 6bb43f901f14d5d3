"""python -m svc_inference"""

import sys

from qraft_runtime.wrong_settings import run_with_settings
from svc_inference.app import run
from svc_inference.handlers import SERVICE

sys.exit(run_with_settings(SERVICE, run))
