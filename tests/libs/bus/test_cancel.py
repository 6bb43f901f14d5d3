from __future__ import annotations

import asyncio

from qraft_bus.cancel import cancel_and_wait


async def test_task_that_loses_its_first_cancellation_still_ends() -> None:
    n_lost = 0

    async def careless() -> None:
        nonlocal n_lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                n_lost += 1
                if n_lost == 3:
                    raise

    task = asyncio.create_task(careless())
    await asyncio.sleep(0)

    await asyncio.wait_for(cancel_and_wait(task), 5)

    assert task.cancelled() and n_lost == 3


async def test_error_of_a_task_that_ended_already_stays_in_it() -> None:
    async def fail() -> None:
        raise ValueError("x")

    task = asyncio.create_task(fail())
    await asyncio.wait({task})

    await cancel_and_wait(task)

    assert isinstance(task.exception(), ValueError)
