"""
Group commit: while one transaction is being stored, those that come next gather and go in the following one together.

One commit costs a disk sync; 64 callers at once then cost one or two of them, not 64. Under load the next batch
waits a moment for more: what a batch costs in processor time hardly depends on its size.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

import asyncpg

from qraft_contracts.outcomes import Transient
from qraft_store.postgres_pools import as_transient

N_BATCH_MAX: Final = 256
N_WAITING_MAX: Final = 8_192  # beyond it a caller is told to come again; 32 full batches

W = TypeVar("W")
R = TypeVar("R")
Run = Callable[[Sequence[W]], Awaitable[Sequence[R | Exception]]]


class GroupCommit(Generic[W, R]):
    """
    Runs work in batches, in the order in which it came, one batch at a time.

    run: stores one batch in one transaction and returns each work's result, or the exception that is its caller's.
    linger_s: how long a batch gathers when the one before it was shared; who comes alone never waits.
    """

    def __init__(self, run: Run[W, R], *, n_waiting_max: int = N_WAITING_MAX, linger_s: float = 0.0) -> None:
        self._run = run
        self._n_waiting_max = n_waiting_max
        self._linger_s = linger_s
        self._was_shared = False
        self._waiting: deque[tuple[W, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, work: W) -> R:
        """
        Return the work's result once it is stored.

        A caller that is canceled while it waits may or may not find its work stored.

        Raises:
            Transient: the database is away (the work may be stored all the same), or too much work waits.
        """
        if len(self._waiting) >= self._n_waiting_max:
            raise Transient("overloaded", f"{self._n_waiting_max} changes wait for the database; try again")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
            self._task.add_done_callback(self._ended)
        return await future

    async def close(self) -> None:
        """Wait until everything that came is stored."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _drain(self) -> None:
        while self._waiting:
            if self._linger_s and self._was_shared:
                await asyncio.sleep(self._linger_s)
            batch = list(islice(self._waiting, N_BATCH_MAX))
            self._was_shared = len(batch) > 1
            await self._store(batch)
            for _ in batch:
                self._waiting.popleft()

    async def _store(self, batch: Sequence[tuple[W, asyncio.Future[R]]]) -> None:
        batch = [it for it in batch if not it[1].done()]  # whoever was canceled meanwhile wants nothing any more
        if not batch:
            return
        try:
            with as_transient():
                results: Sequence[R | Exception] = await self._run([work for work, _ in batch])
        except Transient as error:
            results = [error] * len(batch)
        except asyncpg.PostgresError as error:
            # A row that the schema refuses fails its own caller, not those who came at the same moment.
            if len(batch) > 1:
                for one in batch:
                    await self._store([one])
                return
            results = [error]
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Hand a bug to those who wait, and start again if somebody came in the last moment."""
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            while self._waiting:
                _, future = self._waiting.popleft()
                if not future.done():
                    future.set_exception(error) if not task.cancelled() else future.cancel()
        if self._waiting:
            self._task = asyncio.create_task(self._drain())
            self._task.add_done_callback(self._ended)
