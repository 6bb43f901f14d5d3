"""The Pictures port: a small pool of limited processes that live as long as they behave."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from qraft_contracts.outcomes import Transient
from qraft_telemetry import logs
from svc_imagegen.adapters import verify_process as child
from svc_imagegen.domain.outcome import BadPicture
from svc_imagegen.ports import VerifiedPicture

N_PIXELS_MAX: Final = 40_000_000
# A picture's CPU limit ends it long before; this is for a process that hangs without using CPU, or a stalled machine.
WALL_S_PER_PICTURE: Final = 90.0
START_TIMEOUT_S: Final = 30.0
_EXIT_TIMEOUT_S: Final = 5.0
# Two deaths on one picture are the picture's doing; one may be the machine's (out of memory, an operator).
_N_TRIES: Final = 2
# A fresh process has 35 MiB; the allocator may keep some arenas. What is far above has leaked.
_RESIDENT_BYTES_MAX: Final = 160 << 20
# Starting anew costs 0.1 s; every so often it is a bound on whatever grows slowly.
_N_PICTURES_PER_PROCESS: Final = 2_000
_N_UPLOADS_WAITING_MAX: Final = 64
_HASH_INLINE_BYTES_MAX: Final = 1 << 18  # 0.2 ms; larger ones are hashed in a thread
_PIPE_BYTES: Final = 1 << 20
# A process that hostile bytes took over could answer without end.
_TEXT_BYTES_MAX: Final = 1 << 16
_WRITTEN_BYTES_MAX: Final = 256 << 20  # 40 Mpx that cannot be compressed at all, as PNG with alpha, are 160 MB


class _Died(Exception):
    """The process ended, or was ended, before its answer. returncode: negative for a signal."""

    def __init__(self, returncode: int) -> None:
        super().__init__(f"the process ended with {returncode}")
        self.returncode = returncode


class ProcessPictures:
    """
    Checks pictures in n_workers processes, each with one picture at a time.

    verify waits without end for its turn: its callers are bounded by the providers' caps, and what it checks was paid.
    sanitize raises Transient when too many uploads wait already.
    """

    def __init__(
        self,
        *,
        n_workers: int = 2,
        n_pixels_max: int = N_PIXELS_MAX,
        wall_s: float = WALL_S_PER_PICTURE,
        n_uploads_waiting_max: int = _N_UPLOADS_WAITING_MAX,
    ) -> None:
        self._n_pixels_max = n_pixels_max
        self._wall_s = wall_s
        self._n_uploads_waiting_max = n_uploads_waiting_max
        self._n_uploads = 0
        self._slots: list[_Slot] = [_Slot(n_pixels_max) for _ in range(n_workers)]
        self._free = asyncio.Semaphore(n_workers)
        self._idle = list(self._slots)

    async def open(self) -> None:
        """Start the processes now; otherwise the first pictures wait for them."""
        await asyncio.gather(*(slot.start() for slot in self._slots))

    async def close(self) -> None:
        """End the processes."""
        await asyncio.gather(*(slot.end() for slot in self._slots))

    def pids(self) -> tuple[int, ...]:
        """Return the processes that run now."""
        return tuple(slot.pid for slot in self._slots if slot.pid)

    async def verify(self, data: bytes) -> VerifiedPicture:
        """Check what a provider gave; see the port."""
        verdict, _ = await self._ask(child.VERIFY, data)
        return await _verified(data, verdict)

    async def sanitize(self, data: bytes, *, role: str) -> VerifiedPicture:
        """Re-encode what a person uploaded; see the port. Raises Transient when too many wait."""
        if self._n_uploads >= self._n_uploads_waiting_max:
            raise Transient("pictures_busy", f"{self._n_uploads} uploads wait for their check; send yours again later")
        self._n_uploads += 1
        try:
            operation = child.SANITIZE_MASK if role == "mask" else child.SANITIZE_IMAGE
            verdict, written = await self._ask(operation, data)
        finally:
            self._n_uploads -= 1
        return await _verified(written, verdict)

    async def _ask(self, operation: int, data: bytes) -> tuple[child.Verdict, bytes]:
        async with self._slot() as slot:
            for i_try in range(1, _N_TRIES + 1):
                try:
                    verdict, written = await slot.ask(operation, data, wall_s=self._wall_s)
                except TimeoutError:
                    raise BadPicture("too_slow", "checking the picture took too long") from None
                except _Died as error:
                    logs.get().warning("picture_process.died", returncode=error.returncode, i_try=i_try)
                    if error.returncode == -signal.SIGXCPU:
                        raise BadPicture("too_slow", "decoding the picture takes too long") from error
                    continue
                if verdict.cause:
                    raise BadPicture(verdict.cause, verdict.detail)
                return verdict, written
        raise BadPicture("decoder_failed", f"decoding the picture ended the decoder {_N_TRIES} times")

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[_Slot]:
        async with self._free:
            slot = self._idle.pop()
            try:
                yield slot
            finally:
                self._idle.append(slot)


async def _verified(data: bytes, verdict: child.Verdict) -> VerifiedPicture:
    """Return the picture with a hash of our own: the process that saw hostile bytes is not believed about it."""
    if len(data) <= _HASH_INLINE_BYTES_MAX:
        sha256 = _sha256(data)
    else:
        sha256 = await asyncio.to_thread(_sha256, data)
    return VerifiedPicture(
        data=data, media_type=verdict.media_type, width=verdict.width, height=verdict.height, sha256=sha256
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(slots=True)
class _Running:
    process: Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    n_pictures: int = 0


class _Slot:
    """One place for a process: started when needed, ended when it misbehaves."""

    def __init__(self, n_pixels_max: int) -> None:
        self._n_pixels_max = n_pixels_max
        self._running: _Running | None = None

    @property
    def pid(self) -> int | None:
        return self._running.process.pid if self._running else None

    async def start(self) -> _Running:
        """
        Return the running process, a new one if need be.

        Raises:
            Transient: no process could be started; no picture is to blame.
        """
        if self._running is not None and self._running.process.returncode is not None:
            await self.end()  # it died between two pictures, which says nothing about the next one
        if self._running is None:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    self._running = await self._spawn()
                    await self._running.stdout.readexactly(len(child.READY))
            except (OSError, asyncio.IncompleteReadError) as error:
                await self.end()
                raise Transient("pictures_away", f"the process that checks pictures does not start: {error}") from error
        return self._running

    async def _spawn(self) -> _Running:
        # No variable of ours reaches it: keys and passwords are in the environment of a service.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", child.__name__, str(self._n_pixels_max),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, cwd="/", start_new_session=True, limit=_PIPE_BYTES,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        return _Running(process, process.stdin, process.stdout)

    async def ask(self, operation: int, data: bytes, *, wall_s: float) -> tuple[child.Verdict, bytes]:
        """
        Return the verdict on one picture.

        Raises:
            TimeoutError: no answer within wall_s; the process was ended.
            _Died: the process ended.
        """
        running = await self.start()
        is_well = False
        try:
            async with asyncio.timeout(wall_s):
                answer = await _exchange(running, operation, data)
            running.n_pictures += 1
            is_well = answer[0].n_bytes_resident <= _RESIDENT_BYTES_MAX and running.n_pictures < _N_PICTURES_PER_PROCESS
            return answer
        except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise _Died(await _exit_code(running.process)) from error
        finally:
            if not is_well:
                await self.end()

    async def end(self) -> None:
        """End the process, if there is one."""
        running, self._running = self._running, None
        if running is None:
            return
        if running.process.returncode is None:
            with suppress(ProcessLookupError):
                running.process.kill()
        await running.process.wait()
        running.stdin.close()


async def _exit_code(process: Process) -> int:
    """Return why a process that closed its pipe ended: killing it now would overwrite its own reason."""
    try:
        async with asyncio.timeout(_EXIT_TIMEOUT_S):
            return await process.wait()
    except TimeoutError:
        return 0


async def _exchange(running: _Running, operation: int, data: bytes) -> tuple[child.Verdict, bytes]:
    running.stdin.write(child.QUESTION.pack(operation, len(data)))
    running.stdin.write(data)
    await running.stdin.drain()
    n_text, n_written = child.ANSWER.unpack(await running.stdout.readexactly(child.ANSWER.size))
    if n_text > _TEXT_BYTES_MAX or n_written > _WRITTEN_BYTES_MAX:
        raise BrokenPipeError(f"an answer of {n_text} + {n_written} bytes")
    verdict = msgspec.json.decode(await running.stdout.readexactly(n_text), type=child.Verdict)
    return verdict, await running.stdout.readexactly(n_written)
