"""A mistyped variable ends a service with one line that names it, and never tells its value."""

import json
import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from qraft_runtime.settings import CommonSettings
from qraft_runtime.wrong_settings import EXIT_USAGE, wrong_settings

MISTYPED = {
    "svc_inference": "QRAFT_INFERENCE_N_THREADS",
    "svc_execution": "QRAFT_EXECUTION_START_CASH",
    "svc_features": "QRAFT_INTERVAL",
    "svc_imagegen": "QRAFT_IMAGEGEN_ROLES",
}


@pytest.mark.parametrize(("service", "variable"), MISTYPED.items())
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


@pytest.mark.parametrize("variable", ["QRAFT_LOG_LEVEL", "QRAFT_INTERVAL", "QRAFT_HTTP_PORT"])
def test_every_variable_that_all_services_share_is_looked_at_before_one_starts(monkeypatch, variable):
    monkeypatch.setenv(variable, "s3cret")

    with pytest.raises(ValidationError) as caught:
        CommonSettings()

    told = wrong_settings(caught.value)
    assert told.startswith(f"{variable}: ")
    assert "s3cret" not in told


def test_level_may_be_written_small(monkeypatch):
    monkeypatch.setenv("QRAFT_LOG_LEVEL", "debug")

    assert CommonSettings().log_level == "DEBUG"
