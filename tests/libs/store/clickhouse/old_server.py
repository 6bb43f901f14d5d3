"""A real clickhouse-server on loopback: Debian's package is 18.16, old, and speaks the native protocol of its time."""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USERS = """<yandex>
<profiles><default/></profiles><quotas><default/></quotas>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
<quota>default</quota></default></users>
</yandex>"""
_CONFIG = """<yandex>
<logger><level>warning</level><log>{folder}/log</log><errorlog>{folder}/err</errorlog></logger>
<listen_host>127.0.0.1</listen_host><tcp_port>{port}</tcp_port><path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>
<users_config>{folder}/users.xml</users_config><default_profile>default</default_profile>
<default_database>default</default_database><mark_cache_size>5368709</mark_cache_size><timezone>UTC</timezone>
</yandex>"""
_START_S = 20
_PR_SET_PDEATHSIG = 1


def find_server() -> str | None:
    """Return where the server's program is, None when it is not installed."""
    return shutil.which("clickhouse-server") or shutil.which("clickhouse-server", path="/usr/sbin")


@contextmanager
def old_server(program: str, folder: Path, *, port: int) -> Iterator[str]:
    """Run a server on a folder and give its URL."""
    for name in ("data", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "users.xml").write_text(_USERS)
    (folder / "config.xml").write_text(_CONFIG.format(folder=folder, port=port))
    command = [program, f"--config-file={folder / 'config.xml'}"]
    with (folder / "output").open("ab") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, preexec_fn=_end_with_parent)
        try:
            _wait(server, port, folder)
            yield f"clickhouse://127.0.0.1:{port}/default"
        finally:
            server.kill()  # it takes ten seconds to end by itself, and its data is ours to lose
            server.wait(timeout=_START_S)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _wait(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    server.kill()
    raise RuntimeError(f"clickhouse-server did not start: {(folder / 'output').read_text()[-2_000:]}")
