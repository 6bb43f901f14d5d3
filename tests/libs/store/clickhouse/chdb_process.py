"""
Today's ClickHouse engine (chdb) in a process of its own: statements in, Native format in and out.

chdb allows one folder a process and takes half a gigabyte; the tests' process keeps neither.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class EngineError(Exception):
    """The engine refused a statement; code and message are its own."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        head = message.split("Code: ", 1)[-1].split(".", 1)[0]
        self.code = int(head) if head.isdigit() else 1000


class ChdbProcess:
    """Runs statements in the child; `close` ends it."""

    def __init__(self, folder: Path) -> None:
        self._errors = (folder / "errors.txt").open("w+b")
        self._child = subprocess.Popen(
            [sys.executable, __file__, str(folder / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def run(self, sql: str, data: bytes | None = None) -> bytes:
        """Run a statement, an INSERT with its data in Native format, and return what it gives in that format."""
        assert self._child.stdin is not None and self._child.stdout is not None
        pickle.dump((sql, data), self._child.stdin)
        self._child.stdin.flush()
        try:
            is_done, answer = pickle.load(self._child.stdout)
        except EOFError as error:
            self._errors.seek(0)
            raise RuntimeError(self._errors.read().decode(errors="replace")[-2_000:]) from error
        if not is_done:
            raise EngineError(answer)
        return bytes(answer)

    def close(self) -> None:
        """End the child."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=20)
        self._errors.close()


def _serve(folder: str) -> None:
    from chdb.session import Session

    with Session(folder) as session, tempfile.NamedTemporaryFile(suffix=".native") as file:
        while True:
            try:
                sql, data = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                answer = (True, _answer(session, sql, data, Path(file.name)))
            except RuntimeError as error:
                answer = (False, str(error))
            pickle.dump(answer, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _answer(session: Any, sql: str, data: bytes | None, file: Path) -> bytes:
    if data is not None:
        file.write_bytes(data)
        sql = f"{sql} FROM INFILE '{file}' FORMAT Native"
    found = session.query(sql, "Native")
    return bytes(found.bytes()) if found is not None else b""


if __name__ == "__main__":
    _serve(sys.argv[1])
