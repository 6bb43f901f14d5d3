"""
Install hash-pinned requirements and our packages into the environment of this interpreter. Standard library only.

uv (about 20 MB, from the same index, pinned by hash in the requirement files) installs in a tenth of pip's time; where
it cannot be had or fails, pip does the same work. Usage: install.py REQUIREMENTS PACKAGE...
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Install; return the exit code of the installer that had the last word."""
    requirements, packages = Path(sys.argv[1]), sys.argv[2:]
    editables = [part for package in packages for part in ("-e", f"./{package}")]
    for installer in (_uv, _pip):
        run = installer(requirements)
        if run is None:
            continue
        # The file is complete; what it leaves out (torch) must not be asked for again by who declares it.
        code = run(["--require-hashes", "--no-deps", "-r", str(requirements)])
        code = code or run(["--no-deps", "--no-build-isolation", *editables])
        if code == 0:
            return 0
        print(f"{installer.__name__[1:]} failed with exit code {code}", file=sys.stderr)
    return 1


def _uv(requirements: Path):
    """Return an installer that calls uv, or None where uv cannot be installed."""
    pinned = re.search(r"^uv==.*?(?=^\S)", requirements.read_text(), re.M | re.S)
    if pinned is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as only_uv:
        only_uv.write(pinned.group(0))
        only_uv.flush()
        if _call([sys.executable, "-m", "pip", "install", "-q", "--require-hashes", "-r", only_uv.name]) != 0:
            return None
    uv = str(Path(sys.executable).parent / "uv")
    return lambda arguments: _call([uv, "pip", "install", "-q", "--python", sys.executable, *arguments])


def _pip(_requirements: Path):
    """Return an installer that calls pip."""
    return lambda arguments: _call([sys.executable, "-m", "pip", "install", "-q", *arguments])


def _call(argv: list[str]) -> int:
    return subprocess.run(argv, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
