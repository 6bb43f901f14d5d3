"""The acceptance matrix over real HTTP: only what is real counts, whatever the gateway says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.svc_imagegen.pictures.stage import ALL_SUPPORTED, PaintingProvider, Stage, staged

from qraft_runtime.clock import SystemClock
from svc_imagegen.adapters.acceptance_report import page, table
from svc_imagegen.adapters.gateway_http import HttpGateway
from svc_imagegen.adapters.providers.simulated import SimulatedProvider
from svc_imagegen.domain.acceptance import (
    AS_ASKED,
    CHECKS,
    COST_CONFIRMED,
    DOWNLOADED,
    NOT_SIMULATED,
    CellResult,
    Matrix,
    Verdict,
    cells,
    is_accepted,
)
from svc_imagegen.domain.capability import Support
from svc_imagegen.usecases.acceptance import Acceptance, AcceptanceTerms, JobRecord, Refusal

CELLS = cells(sizes=("64x64", "96x64"), formats=("png", "jpeg", "webp"), quality="low")
REAL = frozenset({"paints"})


async def matrix_of(
    stage: Stage, gateway: HttpGateway | None = None, *, only: frozenset[str] = REAL, allow_simulated: bool = False,
    credits_max: int = 10_000,
) -> Matrix:  # fmt: skip
    terms = AcceptanceTerms(
        gateway=stage.url, cells=CELLS, credits_max=credits_max, only=only, allow_simulated=allow_simulated, poll_s=0.02
    )
    acceptance = Acceptance(terms, gateway=gateway or stage.gateway, clock=SystemClock())
    return await acceptance(await acceptance.models())


def verdicts(matrix: Matrix) -> dict[str, Verdict]:
    return {it.cell: it.verdict for it in matrix.results}


async def test_real_provider_that_does_everything_is_accepted() -> None:
    async with staged(PaintingProvider(features=ALL_SUPPORTED)) as stage:
        matrix = await matrix_of(stage)

    assert set(verdicts(matrix).values()) == {Verdict.PASSED}
    assert len(matrix.results) == len(CELLS) == 7
    assert matrix.is_accepted
    assert all(it.checks == dict.fromkeys(CHECKS, True) for it in matrix.results)
    assert matrix.charged_credits == str(7 * 40 + 5 + 10 + 5)


async def test_simulated_provider_is_not_called_and_not_counted() -> None:
    async with staged(PaintingProvider(features=ALL_SUPPORTED)) as stage:
        matrix = await matrix_of(stage, only=frozenset())
        jobs = await stage.jobs.list_jobs("acme", limit=100, before=None)

    assert not matrix.is_accepted
    assert (matrix.n_passed, matrix.n_not_counted) == (7, 7)
    assert not any(it.is_simulated for it in jobs)


async def test_simulated_provider_that_is_allowed_is_labeled_and_still_not_counted() -> None:
    async with staged() as stage:
        matrix = await matrix_of(stage, only=frozenset({"simulated"}), allow_simulated=True)

    assert set(verdicts(matrix).values()) == {Verdict.NOT_COUNTED}
    assert not matrix.is_accepted
    assert all(it.job_id and it.checks[DOWNLOADED] and not it.checks[NOT_SIMULATED] for it in matrix.results)


async def test_no_model_at_all_is_not_accepted() -> None:
    async with staged() as stage:
        matrix = await matrix_of(stage, only=frozenset({"nobody"}))

    assert matrix.results == ()
    assert not matrix.is_accepted


async def test_placeholder_that_the_gateway_calls_real_is_found_by_its_file() -> None:
    class Forged(HttpGateway):
        """Lists a simulated model, its jobs and its assets as real."""

        async def models(self) -> Sequence[object]:  # type: ignore[override]
            return [replace(it, is_simulated=False) for it in await super().models()]

        async def job(self, job_id: str) -> JobRecord:
            job = await super().job(job_id)
            return replace(job, is_simulated=False, assets=tuple((*it[:3], False) for it in job.assets))

    async with staged() as stage, Forged(stage.url, key=stage.key) as forged:
        matrix = await matrix_of(stage, forged, only=frozenset({"simulated"}))

    assert set(verdicts(matrix).values()) == {Verdict.NOT_COUNTED}
    assert not matrix.is_accepted


async def test_picture_of_another_format_fails_its_cell() -> None:
    async with staged(PaintingProvider(faults=frozenset({"wrong format"}), features=ALL_SUPPORTED)) as stage:
        matrix = await matrix_of(stage)

    (found,) = (it for it in matrix.results if it.cell == "format jpeg")
    assert found.verdict is Verdict.FAILED
    assert not found.checks[AS_ASKED]
    assert not matrix.is_accepted


async def test_picture_of_another_size_is_refused_before_it_is_paid_and_fails_its_cell() -> None:
    async with staged(PaintingProvider(faults=frozenset({"wrong size"}), features=ALL_SUPPORTED)) as stage:
        matrix = await matrix_of(stage)
        jobs = await stage.jobs.list_jobs("acme", limit=100, before=None)

    (found,) = (it for it in matrix.results if it.cell == "size 96x64")
    assert found.verdict is Verdict.FAILED
    assert "another size" in found.reason
    assert {it.money for it in jobs} == {"voided"}
    assert not matrix.is_accepted


async def test_bytes_other_than_recorded_fail_every_cell() -> None:
    class Mangling(HttpGateway):
        async def content(self, asset_id: str) -> bytes:
            return await super().content(asset_id) + b"\0"

    provider = PaintingProvider(features=ALL_SUPPORTED)
    async with staged(provider) as stage, Mangling(stage.url, key=stage.key) as mangling:
        matrix = await matrix_of(stage, mangling)

    assert set(verdicts(matrix).values()) == {Verdict.FAILED}
    assert not any(it.checks[DOWNLOADED] for it in matrix.results)


async def test_other_charge_than_estimated_fails_every_cell() -> None:
    class Dearer(HttpGateway):
        async def job(self, job_id: str) -> JobRecord:
            return replace(await super().job(job_id), charged_credits="41")

    provider = PaintingProvider(features=ALL_SUPPORTED)
    async with staged(provider) as stage, Dearer(stage.url, key=stage.key) as dearer:
        matrix = await matrix_of(stage, dearer)

    assert set(verdicts(matrix).values()) == {Verdict.FAILED}
    assert not any(it.checks[COST_CONFIRMED] for it in matrix.results)


async def test_unknown_price_fails_without_a_job() -> None:
    async with staged(PaintingProvider(features=ALL_SUPPORTED), is_priced=False) as stage:
        matrix = await matrix_of(stage)
        jobs = await stage.jobs.list_jobs("acme", limit=10, before=None)

    assert set(verdicts(matrix).values()) == {Verdict.FAILED}
    assert all("price_unknown" in it.reason for it in matrix.results)
    assert not jobs


async def test_unknown_capability_fails_and_an_unsupported_one_is_not_required() -> None:
    known = ALL_SUPPORTED | {"mask": Support.UNSUPPORTED}
    async with staged(PaintingProvider(features=known)) as stage:
        unsupported = await matrix_of(stage)
    del known["mask"]
    async with staged(PaintingProvider(features=known)) as stage:
        unknown = await matrix_of(stage)

    assert verdicts(unsupported)["edit with a mask"] is Verdict.UNSUPPORTED
    assert unsupported.is_accepted
    assert verdicts(unknown)["edit with a mask"] is Verdict.FAILED
    assert not unknown.is_accepted


async def test_failed_job_fails_with_the_gateways_own_words() -> None:
    async with staged(PaintingProvider(faults=frozenset({"policy"}), features=ALL_SUPPORTED)) as stage:
        matrix = await matrix_of(stage)

    assert set(verdicts(matrix).values()) == {Verdict.FAILED}
    assert "Not charged." in matrix.results[0].reason
    assert matrix.charged_credits == "0"


async def test_wrong_key_is_refused_before_anything_is_spent() -> None:
    provider = PaintingProvider(features=ALL_SUPPORTED)
    async with staged(provider) as stage, HttpGateway(stage.url, key="sk-qraft-wrong") as stranger:
        with pytest.raises(Refusal, match="invalid_api_key"):
            await matrix_of(stage, stranger)

    assert not provider.requests


async def test_matrix_beyond_the_allowed_sum_is_not_begun() -> None:
    async with staged(PaintingProvider(features=ALL_SUPPORTED)) as stage:
        with pytest.raises(Refusal, match="too_expensive"):
            await matrix_of(stage, credits_max=299)
        assert not await stage.jobs.list_jobs("acme", limit=10, before=None)


async def test_something_that_is_no_gateway_is_refused() -> None:
    async with HttpGateway("http://127.0.0.1:9", key="k") as gateway:
        with pytest.raises(Refusal, match="gateway_away"):
            await gateway.check_key()


def test_matrix_of_nothing_required_is_never_accepted() -> None:
    assert not is_accepted([])
    assert not is_accepted([_result(Verdict.UNSUPPORTED)])
    assert is_accepted([_result(Verdict.UNSUPPORTED), _result(Verdict.PASSED)])
    assert not is_accepted([_result(Verdict.NOT_COUNTED), _result(Verdict.PASSED)])
    assert not is_accepted([_result(Verdict.FAILED), _result(Verdict.PASSED)])


def test_reports_say_the_result_and_take_no_markup_from_providers() -> None:
    evil = _result(Verdict.FAILED, provider="<script>alert(1)</script>", reason='"><img src=x onerror=alert(1)>\n' * 9)
    matrix = Matrix("http://g", "2026", "2026", False, 0, 1, 0, 0, "0", (evil, _result(Verdict.NOT_COUNTED)))

    text, html = table(matrix), page(matrix)

    assert "NOT ACCEPTED: 0 passed, 1 failed" in text
    assert "not counted: simulated" in text
    assert max(map(len, text.splitlines())) < 220
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!x onerror)[^\s>]+""", html)  # nothing is loaded from anywhere
    assert "验收矩阵" in html


@pytest.mark.parametrize(("only", "code"), [("paints", 0), ("simulated", 2)])
async def test_command_writes_its_reports_and_ends_with_the_verdict(only: str, code: int, tmp_path: Path) -> None:
    async with staged(PaintingProvider(features=ALL_SUPPORTED)) as stage:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "svc_imagegen.adapters.operator_run", "accept", only, "--url", stage.url,
            "--size", "64x64", "--format", "png", "--allow-simulated", "--poll-s", "0.02", "--out", str(tmp_path),
            env=dict(os.environ) | {"QRAFT_API_KEY": stage.key}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()

    written = json.loads((tmp_path / "acceptance.json").read_text())
    assert process.returncode == code, said.decode()
    assert written["is_accepted"] is (code == 0)
    assert (b"NOT ACCEPTED" in said) is (code != 0)
    assert stage.key.encode() not in said + (tmp_path / "acceptance.html").read_bytes()
    assert len(written["results"]) == 4


def test_simulated_provider_is_the_one_that_is_refused() -> None:
    assert SimulatedProvider().is_simulated


def _result(verdict: Verdict, *, provider: str = "p", reason: str = "") -> CellResult:
    return CellResult(provider=provider, model="m", cell="generation", verdict=verdict, reason=reason)
