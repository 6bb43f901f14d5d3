"""A mistyped variable ends a service with one line that names it, and never tells its value."""

import json
import os
import subprocess
import sys

import pytest

from qraft_runtime.wrong_settings import EXIT_USAGE

SERVICES = {
    "svc_inference": "QRAFT_INFERENCE_N_THREADS",
    "svc_execution": "QRAFT_EXECUTION_START_CASH",
    "svc_features": "QRAFT_HTTP_PORT",
    "svc_imagegen": "QRAFT_HTTP_PORT",
}


@pytest.mark.parametrize(("service", "variable"), SERVICES.items())
def test_mistyped_variable_is_named_in_one_line_without_its_value(tmp_path, service, variable):
    environment = os.environ | {variable: "s3cret", "QRAFT_HOME": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-m", service], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )

    assert done.returncode == EXIT_USAGE, done.stderr
    (line,) = (done.stdout + done.stderr).splitlines()
    told = json.loads(line)
    assert told["level"] == "error"
    assert f"{variable}: " in told["detail"]
    assert "s3cret" not in line
