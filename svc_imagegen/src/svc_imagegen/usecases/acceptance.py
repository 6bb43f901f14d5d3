"""Run the acceptance matrix against a gateway as a client with a key: what it says is checked, never believed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from qraft_contracts.billing import MICROCREDITS_PER_CREDIT
from qraft_runtime.clock import Clock
from svc_imagegen.domain import acceptance
from svc_imagegen.domain.acceptance import Cell, CellResult, Matrix, ModelUnderTest, Verdict
from svc_imagegen.domain.failures import credits_text
from svc_imagegen.domain.layout import read_layout
from svc_imagegen.domain.outcome import BadPicture
from svc_imagegen.domain.provenance import read_provenance
from svc_imagegen.domain.sample_pictures import sample_card, sample_mask

PROMPT: Final = "A lighthouse on a cliff at dusk, calm sea, soft light."
EDIT_PROMPT: Final = "Turn the colored square into a lighthouse; keep the ground as it is."
_N_AT_ONCE: Final = 4  # enough to hide the waiting, too few to look like a load test


class Refusal(Exception):
    """The gateway said no, or could not be talked to. code: as it named it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the gateway tells it. Amounts are credits as text. assets: (id, sha256, bytes, is_simulated)."""

    job_id: str
    state: str
    message: str
    is_final: bool
    is_simulated: bool
    money_state: str
    charged_credits: str
    assets: tuple[tuple[str, str, int, bool], ...]


class Gateway(Protocol):
    """The gateway's HTTP API with one key. Every method raises Refusal."""

    async def check_key(self) -> None: ...
    async def models(self) -> Sequence[ModelUnderTest]: ...
    async def estimate(self, model: str, cell: Cell) -> str: ...
    async def submit(
        self, model: str, cell: Cell, *, prompt: str, pictures: Sequence[bytes], mask: bytes | None
    ) -> str: ...
    async def job(self, job_id: str) -> JobRecord: ...
    async def content(self, asset_id: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class AcceptanceTerms:
    """
    allow_simulated: run simulated models too, labelled; they never count. credits_max: nothing is run beyond this sum.

    only: names of providers or `provider/model`; empty = all.
    """

    gateway: str
    cells: tuple[Cell, ...]
    credits_max: int
    allow_simulated: bool = False
    only: frozenset[str] = frozenset()
    job_timeout_s: float = 780.0
    poll_s: float = 1.0


@dataclass(slots=True)
class _Run:
    """One cell on its way."""

    model: ModelUnderTest
    cell: Cell
    began_s: float
    checks: dict[str, bool] = field(default_factory=dict)
    estimated_credits: str | None = None
    job: JobRecord | None = None
    job_id: str | None = None


class Acceptance:
    """The use case."""

    def __init__(self, terms: AcceptanceTerms, *, gateway: Gateway, clock: Clock) -> None:
        self._terms = terms
        self._gateway = gateway
        self._clock = clock

    async def models(self) -> tuple[ModelUnderTest, ...]:
        """Return the models that are looked at. Raises Refusal, for a key that is not valid too."""
        await self._gateway.check_key()
        only = self._terms.only
        found = await self._gateway.models()
        return tuple(it for it in found if not only or it.provider in only or it.explicit_id in only)

    async def total_microcredits(self, models: Sequence[ModelUnderTest]) -> int:
        """Return what the whole matrix costs at most; cells without a price are not run and cost nothing."""
        total = 0
        for model in models:
            for cell in self._terms.cells if self._is_run(model) else ():
                try:
                    total += _microcredits(await self._gateway.estimate(model.explicit_id, cell))
                except Refusal:
                    continue
        return total

    async def __call__(self, models: Sequence[ModelUnderTest]) -> Matrix:
        """
        Run every cell of the models and return the matrix.

        Raises:
            Refusal: `too_expensive` when it would cost more than the terms allow; nothing was run.
        """
        began_at = self._clock.now()
        total = await self.total_microcredits(models)
        if total > self._terms.credits_max * MICROCREDITS_PER_CREDIT:
            message = f"the matrix costs up to {credits_text(total)} credits, {self._terms.credits_max} are allowed"
            raise Refusal("too_expensive", message)
        turn = asyncio.Semaphore(_N_AT_ONCE)

        async def in_turn(model: ModelUnderTest, cell: Cell) -> CellResult:
            async with turn:
                return await self._cell(model, cell)

        results = await asyncio.gather(*(in_turn(model, cell) for model in models for cell in self._terms.cells))
        return self._matrix(results, began_at=began_at.isoformat())

    async def _cell(self, model: ModelUnderTest, cell: Cell) -> CellResult:
        run = _Run(model, cell, self._clock.monotonic())
        if not self._is_run(model):
            return self._result(run, Verdict.NOT_COUNTED, "the provider is simulated; it was not called")
        try:
            await self._spend(run)
            await self._examine(run)
        except Refusal as refusal:
            if refusal.code == "capability_unsupported" and cell.name != "generation":
                return self._result(run, Verdict.UNSUPPORTED, str(refusal))
            return self._result(run, self._failed(run), str(refusal))
        except BadPicture as fault:
            run.checks[acceptance.AS_ASKED] = False
            return self._result(run, self._failed(run), f"the downloaded file is no whole picture: {fault}")
        lacking = [it for it in acceptance.CHECKS if not run.checks.get(it, False)]
        if not run.checks.get(acceptance.NOT_SIMULATED, False):
            return self._result(run, Verdict.NOT_COUNTED, "the picture is a simulated placeholder")
        if lacking:
            return self._result(run, Verdict.FAILED, f"not: {', '.join(lacking)}")
        return self._result(run, Verdict.PASSED, "")

    async def _spend(self, run: _Run) -> None:
        """Ask the price, make the job and wait for its end."""
        cell, name = run.cell, run.model.explicit_id
        run.checks[acceptance.PRICE_KNOWN] = False
        run.estimated_credits = await self._gateway.estimate(name, cell)
        run.checks[acceptance.PRICE_KNOWN] = True
        run.job_id = await self._gateway.submit(
            name,
            cell,
            prompt=EDIT_PROMPT if cell.n_references else PROMPT,
            pictures=[sample_card(hue=i) for i in range(cell.n_references)],
            mask=sample_mask() if cell.has_mask else None,
        )
        run.checks[acceptance.KEY_VALID] = True
        try:
            async with asyncio.timeout(self._terms.job_timeout_s):
                run.job = await self._ended(run.job_id)
        except TimeoutError:
            raise Refusal("no_end", f"the job had no end within {self._terms.job_timeout_s:.0f} s") from None

    async def _ended(self, job_id: str) -> JobRecord:
        while True:
            job = await self._gateway.job(job_id)
            if job.is_final:
                return job
            await asyncio.sleep(self._terms.poll_s)

    async def _examine(self, run: _Run) -> None:
        job = run.job
        assert job is not None, "a job that has not ended is not examined"
        if job.state != "succeeded" or not job.assets:
            raise Refusal(f"job_{job.state}", job.message)
        checks = run.checks
        is_simulated = run.model.is_simulated or job.is_simulated or any(it[3] for it in job.assets)
        checks[acceptance.COST_CONFIRMED] = job.money_state == "settled" and _microcredits(
            job.charged_credits
        ) == _microcredits(run.estimated_credits)
        files = [await self._gateway.content(asset_id) for asset_id, *_ in job.assets]
        checks[acceptance.DOWNLOADED] = all(
            len(data) == n_bytes and hashlib.sha256(data).hexdigest() == sha256
            for data, (_, sha256, n_bytes, _) in zip(files, job.assets, strict=True)
        )
        layouts = [read_layout(data) for data in files]
        wanted = f"image/{run.cell.output_format}"
        checks[acceptance.AS_ASKED] = all(
            it.media_type == wanted and run.cell.size in ("auto", f"{it.width}x{it.height}") for it in layouts
        )
        marks = [read_provenance(data, it.media_type) for data, it in zip(files, layouts, strict=True)]
        checks[acceptance.PROVENANCE] = all(it is not None and it.job_id == job.job_id for it in marks)
        is_simulated = is_simulated or any(it is not None and it.is_simulated for it in marks)
        checks[acceptance.NOT_SIMULATED] = not is_simulated

    def _is_run(self, model: ModelUnderTest) -> bool:
        return self._terms.allow_simulated or not model.is_simulated

    def _failed(self, run: _Run) -> Verdict:
        return Verdict.NOT_COUNTED if run.model.is_simulated else Verdict.FAILED

    def _result(self, run: _Run, verdict: Verdict, reason: str) -> CellResult:
        job = run.job
        return CellResult(
            provider=run.model.provider,
            model=run.model.model,
            cell=run.cell.name,
            verdict=verdict,
            reason=reason,
            job_id=run.job_id,
            estimated_credits=run.estimated_credits,
            charged_credits=job.charged_credits if job else None,
            elapsed_s=round(self._clock.monotonic() - run.began_s, 3) if run.job_id else None,
            asset_ids=tuple(it[0] for it in job.assets) if job else (),
            asset_sha256s=tuple(it[1] for it in job.assets) if job else (),
            checks=run.checks,
        )

    def _matrix(self, results: Sequence[CellResult], *, began_at: str) -> Matrix:
        n = {verdict: sum(it.verdict is verdict for it in results) for verdict in Verdict}
        charged = sum(_microcredits(it.charged_credits) for it in results)
        return Matrix(
            gateway=self._terms.gateway,
            began_at=began_at,
            ended_at=self._clock.now().isoformat(),
            is_accepted=acceptance.is_accepted(results),
            n_passed=n[Verdict.PASSED],
            n_failed=n[Verdict.FAILED],
            n_not_counted=n[Verdict.NOT_COUNTED],
            n_unsupported=n[Verdict.UNSUPPORTED],
            charged_credits=credits_text(charged),
            results=tuple(results),
        )


def _microcredits(text: str | None) -> int:
    """Return an amount of credits, as the gateway writes it, in micro-credits; None is nothing."""
    whole, _, rest = (text or "0").partition(".")
    return int(whole) * MICROCREDITS_PER_CREDIT + int(rest.ljust(6, "0") if rest else 0)
