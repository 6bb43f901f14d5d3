"""
Random histories of many jobs: calls with every outcome, crashes at every fail point, a billing that comes and goes.

Whatever happened: every hold is resolved once, no call that may be paid is made twice, and what is charged is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from tests.svc_imagegen.jobs.kit import make_job
from tests.svc_imagegen.jobs.line import FUNDS, PER_IMAGE, Line, ScriptedProvider, answer

from qraft_contracts.outcomes import Transient
from qraft_runtime import failpoint
from svc_imagegen.adapters.memory import MemoryAssetStore, MemoryJobStore
from svc_imagegen.domain.failpoints import FAILPOINTS
from svc_imagegen.domain.job import FINAL_STATES, Job, JobState, hold_id_of
from svc_imagegen.domain.outcome import (
    BadPicture,
    Lookup,
    NotDelivered,
    ProviderAnswer,
    RawPicture,
    Rejected,
    Throttled,
    Uncertain,
)

OUTCOMES = st.sampled_from(
    [
        answer(1, 2),
        answer(1),
        answer(1, 2, 3),
        ProviderAnswer(pictures=(RawPicture(b"<html>"),)),
        Throttled("rate_limit", retry_after_s=3),
        NotDelivered("not_connected"),
        Rejected("content_policy"),
        BadPicture("bad_picture"),
        Uncertain("provider_error"),
        KeyError("data"),
    ]
)
LOOKUPS = st.sampled_from(
    [Lookup("unknown"), Lookup("running"), Lookup("failed"), Lookup("succeeded", answer(4)), KeyError("x")]
)
CERTAINLY_NOTHING = (Throttled, NotDelivered)


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def crashing_at(name: str | None) -> Iterator[None]:
    """Raise at a fail point instead of ending the test's own process there."""

    def crash(reached: str) -> None:
        if reached == name:
            raise Crash(name)

    failpoint._armed = crash
    try:
        yield
    finally:
        failpoint._armed = None


class CountingProvider(ScriptedProvider):
    """Counts the calls that may have been paid, by job."""

    def __init__(self) -> None:
        super().__init__()
        self.paid: Counter[str] = Counter()

    async def generate(self, request, references, *, attempt_id):  # type: ignore[no-untyped-def]
        if not isinstance(self.script[0], CERTAINLY_NOTHING):
            self.paid[attempt_id.rpartition("-")[0]] += 1
        return await super().generate(request, references, attempt_id=attempt_id)


class JobMachine(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.provider = CountingProvider()
        self.told: list[str] = []
        self.asleep: asyncio.Task[float | None] | None = None
        self.awake = asyncio.Event()
        assets = MemoryAssetStore()
        store = MemoryJobStore(assets=assets, on_told=self._hear)
        self.line = Line(store, assets, provider=self.provider)
        self.all: dict[str, Job] = {}

    def _hear(self, job: Job, transition: str) -> None:
        if transition == "created":
            self.told.append(job.job_id)

    def _do(self, work) -> None:  # type: ignore[no-untyped-def]
        async def one() -> None:
            with contextlib.suppress(Crash, Transient):
                await work

        self.runner.run(one())

    @initialize(target=jobs, n=st.integers(2, 5), deadline_s=st.sampled_from([660, 40_000]))
    def accept(self, n: int, deadline_s: float):  # type: ignore[no-untyped-def]
        return multiple(*(self._accept(deadline_s) for _ in range(n)))

    def _accept(self, deadline_s: float) -> str:
        now = self.line.clock.now()
        new = make_job(created_at=now, deadline_at=now + timedelta(seconds=deadline_s))
        job = self.runner.run(self.line.accept(new))
        self.all[job.job_id] = job
        return job.job_id

    @rule(job_id=jobs, outcome=OUTCOMES, crash=st.sampled_from([None, None, *FAILPOINTS]), again=st.booleans())
    def run_job(self, job_id: str, outcome, crash: str | None, again: bool) -> None:  # type: ignore[no-untyped-def]
        self.provider.script = [outcome]
        with crashing_at(crash):
            self._do(self.line.run_job(job_id, is_redelivered=again))

    @rule(
        seconds=st.sampled_from([1, 11, 31, 61, 600, 3_601]), found=LOOKUPS, crash=st.sampled_from([None, *FAILPOINTS])
    )
    def sweep(self, seconds: float, found, crash: str | None) -> None:  # type: ignore[no-untyped-def]
        self.line.clock.forward(seconds)
        self.provider.lookups = [found]
        with crashing_at(crash):
            self._do(self.line.sweep.once())

    @rule(job_id=jobs, found=LOOKUPS, crash=st.sampled_from(FAILPOINTS))
    def crash_and_recover(self, job_id: str, found, crash: str) -> None:  # type: ignore[no-untyped-def]
        """What everything is about, often enough: a worker dies, the sweeper comes, its message comes again."""
        self.run_job(job_id, answer(1, 2), crash, again=False)
        self.sweep(31, found, None)
        self.run_job(job_id, answer(1, 2), None, again=True)

    @rule(job_id=jobs)
    def a_worker_falls_asleep(self, job_id: str) -> None:
        """Its call is open; everybody else will think that it is dead."""
        if self.asleep is not None:
            return
        self.awake = asyncio.Event()
        self.provider.script = [self._sleep]
        self.asleep = self.runner.get_loop().create_task(self.line.run_job(job_id, is_redelivered=False))
        self.runner.run(asyncio.sleep(0.001))

    @rule()
    def it_wakes_up_with_a_picture(self) -> None:
        if self.asleep is not None:
            self.awake.set()
            self._do(self.asleep)
            self.asleep = None

    @precondition(lambda self: self.asleep is not None)
    @rule(
        crash=st.sampled_from([None, "imagegen.after_failure"]),
        found=st.sampled_from([Lookup("failed"), Lookup("unknown")]),
    )
    def it_is_given_up_meanwhile(self, crash: str | None, found: Lookup) -> None:
        self.sweep(31, found, None)
        self.sweep(86_400, found, crash)

    async def _sleep(self) -> ProviderAnswer:
        await self.awake.wait()
        return answer(1, 2)

    @rule(job_id=consumes(jobs))
    def cancel(self, job_id: str) -> None:
        self._do(self.line.jobs.cancel(job_id, now=self.line.clock.now()))

    @rule(job_id=consumes(jobs))
    def let_the_hold_run_out(self, job_id: str) -> None:
        self.line.billing.expire(hold_id_of(job_id))

    @rule()
    def billing_goes(self) -> None:
        self.line.billing.is_away = True

    @rule()
    def billing_comes(self) -> None:
        self.line.billing.is_away = False

    @rule()
    def a_day_passes(self) -> None:
        self.line.clock.forward(86_400)

    @invariant()
    def nothing_is_paid_or_resolved_twice(self) -> None:
        assert all(n <= 1 for n in self.provider.paid.values()), self.provider.paid
        assert all(n <= 1 for n in self.line.billing.n_resolutions.values()), self.line.billing.n_resolutions

    def teardown(self) -> None:
        """After a day and a half of quiet, everything has come to its end."""
        self.it_wakes_up_with_a_picture()
        self.line.billing.is_away = False
        self.provider.script = [answer(1, 2)]
        self.provider.lookups = [Lookup("unknown")]
        for _ in range(60):
            self.line.clock.forward(2_200)
            self.runner.run(self.line.sweep.once())
            for job_id in self.told:
                self._do(self.line.run_job(job_id, is_redelivered=True))
        self.nothing_is_paid_or_resolved_twice()
        self.runner.run(self._check_ends())
        self.runner.close()

    async def _check_ends(self) -> None:
        spent = 0
        for job_id in self.all:
            job = await self.line.jobs.get(job_id)
            assert job is not None and job.is_final and job.state in FINAL_STATES, job
            hold = self.line.billing.hold(hold_id_of(job_id))
            assert hold is not None and hold.state in ("settled", "voided", "expired"), (job, hold)
            assert hold.settled_microcredits == job.charged_microcredits == await self._worth(job), (job, hold)
            assert (job.state is JobState.SUCCEEDED) == bool(job.asset_ids), job
            spent += job.charged_microcredits
        assert await self.line.available() == FUNDS - spent

    async def _worth(self, job: Job) -> int:
        """What the pictures that are there cost; nothing, if the hold was gone before."""
        for asset in await self.line.assets.of_job(job.job_id):
            await self.line.artefacts.get(asset.artefact_key, sha256=asset.sha256)
        hold = self.line.billing.hold(hold_id_of(job.job_id))
        return len(job.asset_ids) * PER_IMAGE if hold is not None and hold.state == "settled" else 0


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Thousands of expected warnings, some with a traceback, would take most of the time."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


_BOUNDS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(max_examples=100, stateful_step_count=30, **_BOUNDS)


@pytest.mark.soak
class TestJobMachineForLong(JobMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=5_000, stateful_step_count=50, **_BOUNDS)
