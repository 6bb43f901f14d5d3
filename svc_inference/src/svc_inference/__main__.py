"""python -m svc_inference"""

import sys

from svc_inference.app import run

sys.exit(run())
