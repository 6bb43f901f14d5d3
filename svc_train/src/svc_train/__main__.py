"""`python -m svc_train`: run the training job once."""

import sys

from svc_train.app import main

sys.exit(main())
