"""Which code is running: the source's revision and every installed version."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Final

from svc_train.ports import Provenance

UNKNOWN: Final = "unknown"
_GIT_TIMEOUT_S: Final = 10
# What the bytes of a model depend on most; the hash covers the rest.
_NAMED: Final = ("lightgbm", "numpy", "numba", "onnx", "onnxruntime", "pyarrow")


def read_provenance(*, code_revision: str | None) -> Provenance:
    """Return what is installed here. code_revision None = ask git, `unknown` where there is no repository."""
    installed = sorted({f"{found.name.lower()}=={found.version}" for found in distributions()})
    return Provenance(
        code_revision=code_revision or _git_revision(),
        requirements_sha256=hashlib.sha256("\n".join(installed).encode()).hexdigest(),
        versions={"python": platform.python_version(), **{name: version(name) for name in _NAMED}},
    )


def _git_revision() -> str:
    """Return the commit of the source tree, with -dirty where tracked files differ from it."""
    git = shutil.which("git")
    if git is None:
        return UNKNOWN
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return UNKNOWN
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else UNKNOWN
