"""The processes that decode pictures: limited, replaced when they die, and never a way into the service."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from PIL import Image
from tests.svc_imagegen.pictures import corpus

from qraft_contracts.outcomes import Transient
from svc_imagegen.adapters.pictures import ProcessPictures
from svc_imagegen.domain.outcome import BadPicture

PICTURE = corpus.good("png")


async def test_pool_survives_a_hundred_killed_processes() -> None:
    pool = corpus.small_pool()
    await pool.open()
    killed: set[int] = set()
    for _ in range(100):
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        assert (await pool.verify(PICTURE)).width == 64

    assert len(killed) == 100
    await pool.close()


async def test_picture_whose_process_is_killed_once_is_checked_by_another() -> None:
    pool = corpus.small_pool()
    await pool.open()
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    asked = asyncio.create_task(pool.verify(PICTURE))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)

    assert (await asked).width == 64
    assert pool.pids() != (pid,)
    await pool.close()


async def test_picture_that_ends_two_processes_is_bad() -> None:
    pool = corpus.small_pool()
    await pool.open()
    asked = asyncio.create_task(pool.verify(PICTURE))
    killed: set[int] = set()
    while not asked.done():
        for pid in pool.pids():
            if pid not in killed and len(killed) < 2:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(0.05)
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        await asyncio.sleep(0)

    # A process that is killed while it starts was nobody's doing: the pool says so instead of blaming the picture.
    with pytest.raises((BadPicture, Transient)):
        await asked
    assert (await pool.verify(PICTURE)).width == 64
    await pool.close()


async def test_process_that_hangs_is_killed_after_the_wall_time_and_replaced() -> None:
    pool = corpus.small_pool(wall_s=0.2)
    await pool.open()
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)

    with pytest.raises(BadPicture) as caught:
        await pool.verify(PICTURE)

    assert caught.value.cause == "too_slow"
    assert not Path(f"/proc/{pid}").exists()
    assert (await pool.verify(PICTURE)).width == 64
    await pool.close()


async def test_caller_that_goes_away_leaves_no_process_with_half_a_picture() -> None:
    pool = corpus.small_pool()
    await pool.open()
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    asked = asyncio.create_task(pool.verify(PICTURE))
    await asyncio.sleep(0.05)

    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    assert not Path(f"/proc/{pid}").exists()
    assert (await pool.verify(corpus.good("jpeg"))).media_type == "image/jpeg"
    await pool.close()


async def test_uploads_beyond_the_queue_are_turned_away_and_paid_pictures_are_not() -> None:
    pool = corpus.small_pool(n_uploads_waiting_max=3)
    await pool.open()
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    uploads = [asyncio.create_task(pool.sanitize(PICTURE, role="image")) for _ in range(3)]
    paid = [asyncio.create_task(pool.verify(PICTURE)) for _ in range(20)]
    await asyncio.sleep(0)

    with pytest.raises(Transient, match="pictures_busy"):
        await pool.sanitize(PICTURE, role="image")

    os.kill(pid, signal.SIGCONT)
    for done in await asyncio.gather(*uploads, *paid):
        assert done.width == 64
    await pool.close()


async def test_process_has_no_secret_no_file_no_socket_and_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QRAFT_CANARY_KEY", "canary-4711")
    pool = corpus.small_pool()
    await pool.open()
    await pool.verify(PICTURE)
    (pid,) = pool.pids()

    environment = Path(f"/proc/{pid}/environ").read_bytes()
    limits = Path(f"/proc/{pid}/limits").read_text()

    assert environment == b""
    for name in ("Max open files", "Max file size", "Max processes", "Max core file size"):
        row = next(it for it in limits.splitlines() if it.startswith(name))
        assert row.removeprefix(name).split()[:2] == ["0", "0"], row
    memory = next(it for it in limits.splitlines() if it.startswith("Max address space")).split()
    assert 0 < int(memory[4]) <= (512 << 20) + _address_space_of_an_idle_one(pid)
    await pool.close()


async def test_cpu_limit_moves_on_with_every_picture() -> None:
    pool = corpus.small_pool()
    await pool.open()
    (pid,) = pool.pids()
    for _ in range(3):
        await pool.verify(PICTURE)

    row = next(it for it in Path(f"/proc/{pid}/limits").read_text().splitlines() if it.startswith("Max cpu time"))
    assert 20 <= int(row.split()[3]) <= 60
    await pool.close()


async def test_process_that_uses_up_its_cpu_time_blames_the_picture_at_once() -> None:
    pool = corpus.small_pool()
    await pool.open()
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    asked = asyncio.create_task(pool.verify(PICTURE))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGXCPU)  # as the kernel does at the limit
    os.kill(pid, signal.SIGCONT)

    with pytest.raises(BadPicture) as caught:
        await asked

    assert caught.value.cause == "too_slow"
    await pool.close()


async def test_process_that_has_grown_is_replaced() -> None:
    pool = corpus.small_pool()
    await pool.open()
    large = corpus.encoded(Image.new("RGB", (6_000, 6_000), (9, 99, 199)), "jpeg")

    await pool.sanitize(large, role="mask")
    await pool.verify(PICTURE)

    # Either its memory went back to the system or it did not, and then the process is another one.
    (now,) = pool.pids()
    resident = int(Path(f"/proc/{now}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident <= 160 << 20
    await pool.close()


async def test_service_without_a_decoder_blames_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    pool = corpus.small_pool()

    with pytest.raises(Transient, match="pictures_away"):
        await pool.verify(PICTURE)


async def test_many_at_once_come_back_each_with_its_own_picture() -> None:
    pool = ProcessPictures(n_workers=2)
    wanted = [corpus.good("png", 10 + i, 10) for i in range(60)]

    found = await asyncio.gather(*(pool.verify(data) for data in wanted))

    assert [it.width for it in found] == [10 + i for i in range(60)]
    await pool.close()


async def test_closed_pool_leaves_no_process() -> None:
    pool = ProcessPictures(n_workers=2)
    await pool.open()
    pids = pool.pids()

    await pool.close()

    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _address_space_of_an_idle_one(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
