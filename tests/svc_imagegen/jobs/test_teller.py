"""What was committed is told: at once by who committed it, later by anybody, in order, and then its row goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from tests.svc_imagegen.jobs.kit import accept, at, make_job

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import OutMessage, PublishAck
from qraft_bus.settings import BusSettings
from qraft_contracts import headers
from qraft_contracts.outcomes import Transient
from svc_imagegen.adapters import teller as module
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.jobs_postgres import PostgresJobStore
from svc_imagegen.adapters.teller import Published, Teller

pytestmark = pytest.mark.postgres


class LeavingBus(MemoryBus):
    """The twin, which can be away; before that it may still take some messages of a batch."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker, name="svc_imagegen", settings=BusSettings())
        self.n_taken_before_leaving: int | None = None

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        if self.n_taken_before_leaving is not None:
            await super().publish_many(messages[: self.n_taken_before_leaving])
            raise Transient("bus_away", "for a test")
        return await super().publish_many(messages)


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    found = Database(postgres_dsn)
    await found.open()
    yield found
    await found.close()


class Process:
    """A store and the teller of its process. A crash leaves what was not told."""

    def __init__(self, database: Database, bus: MemoryBus) -> None:
        published = Published()
        self.teller = Teller(database, bus=bus, published=published)
        self.store = PostgresJobStore(database, stored=lambda _, rows: self.teller.tell(rows), published=published)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.teller.run())

    async def crash(self) -> None:
        assert self._task is not None
        await cancel_and_wait(self._task)
        await self.store.close()


@pytest.fixture
async def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def bus(broker: MemoryBroker) -> AsyncIterator[LeavingBus]:
    made = LeavingBus(broker)
    await made.start()
    yield made
    await made.drain()


@pytest.fixture
async def process(database: Database, bus: LeavingBus) -> AsyncIterator[Process]:
    made = Process(database, bus)
    made.start()
    yield made
    await made.crash()


def told(broker: MemoryBroker) -> list[str]:
    return [it.headers[headers.MESSAGE_ID] for it in broker.messages("IMAGEJOBS")]


async def until(holds: Callable[[], bool], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


async def n_rows(database: Database) -> int:
    return int(await database.read.fetchval("SELECT count(*) FROM imagegen.outbox WHERE published_at IS NULL"))


async def test_a_committed_message_is_told_at_once_and_its_row_goes(
    process: Process, database: Database, broker: MemoryBroker
) -> None:
    first = await accept(process.store, make_job())
    await until(lambda: len(told(broker)) == 1)
    began = asyncio.get_running_loop().time()
    second = await accept(process.store, make_job())
    await until(lambda: len(told(broker)) == 2)
    took_s = asyncio.get_running_loop().time() - began

    assert told(broker) == [f"imagejob/{it.job_id}/created/1" for it in (first, second)]
    assert took_s < 0.9, "nobody waits for a poll"
    async with asyncio.timeout(5):
        while await n_rows(database):
            await asyncio.sleep(0.05)


async def test_rows_of_told_messages_go_with_the_next_step(process: Process, database: Database) -> None:
    job = await accept(process.store, make_job())
    async with asyncio.timeout(5):
        while not process.teller._published._ids:
            await asyncio.sleep(0.005)

    await process.store.get(job.job_id)
    assert await process.store.claim(job.job_id, worker_id="w", now=at(1), lease_s=30) is not None

    ids = [row[0] for row in await database.read.fetch("SELECT message_id FROM imagegen.outbox")]
    assert f"imagejob/{job.job_id}/created/1" not in ids


async def test_what_a_dead_process_did_not_tell_is_told_by_its_next_life(
    database: Database, bus: LeavingBus, broker: MemoryBroker
) -> None:
    dead = Process(database, bus)
    jobs = [await accept(dead.store, make_job(created_at=at(n))) for n in range(3)]
    assert told(broker) == []

    alive = Process(database, bus)
    alive.start()
    await until(lambda: len(told(broker)) == 3)

    assert told(broker) == [f"imagejob/{it.job_id}/created/1" for it in jobs]
    await alive.crash()
    await dead.store.close()


async def test_what_a_dead_process_did_not_tell_is_told_by_another_that_lives(
    database: Database, bus: LeavingBus, broker: MemoryBroker, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEFT_AFTER_S", 0.2)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.1)
    await accept(process.store, make_job())
    await until(lambda: len(told(broker)) == 1)
    dead = Process(database, bus)

    left = await accept(dead.store, make_job())
    await until(lambda: len(told(broker)) == 2)

    assert told(broker)[1] == f"imagejob/{left.job_id}/created/1"
    await dead.store.close()


async def test_messages_keep_their_order_through_a_bus_that_leaves_in_the_middle(
    process: Process, bus: LeavingBus, broker: MemoryBroker
) -> None:
    jobs = [await accept(process.store, make_job())]
    await until(lambda: len(told(broker)) == 1)
    bus.n_taken_before_leaving = 1
    jobs += await asyncio.gather(*(accept(process.store, make_job()) for _ in range(5)))
    await until(lambda: process.teller._is_behind)
    jobs.append(await accept(process.store, make_job()))

    bus.n_taken_before_leaving = None
    jobs.append(await accept(process.store, make_job()))
    await until(lambda: len(told(broker)) == len(jobs))

    assert told(broker) == [f"imagejob/{it.job_id}/created/1" for it in jobs]


async def test_ids_of_rows_come_back_from_who_could_not_delete_them() -> None:
    published = Published()
    published.add(["a", "b"])

    with pytest.raises(Transient), published.taken() as ids:
        published.add(["c"])
        assert ids == ["a", "b"]
        raise Transient("postgres_away", "for a test")

    with published.taken() as ids:
        assert ids == ["a", "b", "c"]
