"""
The process in which untrusted pictures are decoded: `python -m svc_imagegen.adapters.verify_process`.

It gives itself limits before the first byte comes: memory, CPU time, no new file or socket, no other process. A frame
on stdin is one picture, a frame on stdout its verdict. It ends when stdin does.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from typing import Final

import msgspec

# Pillow imports its plugins on first use, which a process that can open no file could not do any more.
from PIL import Image, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

from svc_imagegen.adapters.verify_decode import DECODER_ERRORS, Decoded, examine, reencode
from svc_imagegen.domain.outcome import BadPicture

# Question: operation, bytes. Answer: length of the JSON, bytes, both followed by what they count.
QUESTION: Final = struct.Struct("!BQ")
ANSWER: Final = struct.Struct("!IQ")
READY: Final = b"ready"  # written once the limits hold
VERIFY: Final = 0
SANITIZE_IMAGE: Final = 1
SANITIZE_MASK: Final = 2

# 40 Mpx take 160 MB decoded, twice while they are turned or converted; with the process's own 40 MB below 512 MiB.
MEMORY_BEYOND_BASE: Final = 448 << 20
# 40 Mpx decode in 2 s and are written in 4 s; what takes longer is made to. The kernel counts whole seconds.
CPU_S_PER_PICTURE: Final = 20
_READ_BYTES: Final = 1 << 20
_PAGE: Final = resource.getpagesize()


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer's JSON. cause "": the picture is good. n_bytes_resident: of the process, afterwards."""

    n_bytes_resident: int
    cause: str = ""
    detail: str = ""
    media_type: str = ""
    width: int = 0
    height: int = 0


def main(n_pixels_max: int) -> None:
    """Answer questions until stdin ends."""
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    _limit(_pages(statm)[0])
    _write(READY)
    while (question := _read(QUESTION.size)) is not None:
        operation, length = QUESTION.unpack(question)
        data = _read(length)
        if data is None:
            return
        _allow_cpu()
        verdict, written = _judge(operation, data, n_pixels_max=n_pixels_max)
        del data
        text = msgspec.json.encode(msgspec.structs.replace(verdict, n_bytes_resident=_pages(statm)[1]))
        _write(ANSWER.pack(len(text), len(written)) + text)
        _write(written)


def _judge(operation: int, data: bytes, *, n_pixels_max: int) -> tuple[Verdict, bytes]:
    try:
        found = _decode(operation, data, n_pixels_max=n_pixels_max)
    except BadPicture as error:
        return Verdict(0, cause=error.cause, detail=error.detail), b""
    except MemoryError:
        return Verdict(0, cause="too_large", detail="decoding the picture takes more memory than allowed"), b""
    except DECODER_ERRORS as error:
        # The decoder's own words may quote the picture's bytes.
        return Verdict(0, cause="corrupt", detail=f"the picture cannot be decoded ({type(error).__name__})"), b""
    verdict = Verdict(0, media_type=found.media_type, width=found.width, height=found.height)
    return verdict, found.data


def _decode(operation: int, data: bytes, *, n_pixels_max: int) -> Decoded:
    if operation == VERIFY:
        return examine(data, n_pixels_max=n_pixels_max)
    return reencode(data, is_mask=operation == SANITIZE_MASK, n_pixels_max=n_pixels_max)


def _limit(n_pages: int) -> None:
    Image.preinit()
    n_bytes = n_pages * _PAGE + MEMORY_BEYOND_BASE
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
    # What is open stays open: stdin, stdout, stderr and the counter of pages. Nothing else can be.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow_cpu() -> None:
    """Allow the next picture its share of CPU time; SIGXCPU ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(
        resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + CPU_S_PER_PICTURE, resource.RLIM_INFINITY)
    )


def _pages(statm: int) -> tuple[int, int]:
    """Return (pages of address space, resident pages)."""
    fields = os.pread(statm, 128, 0).split()
    return int(fields[0]), int(fields[1])


def _read(n: int) -> bytes | None:
    """Return n bytes of stdin; None when it ends before."""
    buffer = bytearray(n)
    view, at = memoryview(buffer), 0
    while at < n:
        got = os.readv(0, [view[at : at + _READ_BYTES]])
        if got == 0:
            return None
        at += got
    view.release()
    return bytes(buffer)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view[:_READ_BYTES]) :]


if __name__ == "__main__":
    main(int(sys.argv[1]))
