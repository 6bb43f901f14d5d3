"""What a provider can do is found out for a stated price, only when asked, and by jobs like any other."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime

import pytest
from tests.svc_imagegen.jobs.kit import make_job
from tests.svc_imagegen.pictures.stage import ACCOUNT, CREDIT, PaintingProvider, Stage, staged

from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import FixedClock, SystemClock
from svc_imagegen.adapters.memory import MemoryCapabilityStore
from svc_imagegen.domain.acceptance import Cell
from svc_imagegen.domain.capability import Capability, Support
from svc_imagegen.domain.layout import read_layout
from svc_imagegen.domain.request import ImageRequest, Operation, Reference
from svc_imagegen.domain.sample_pictures import SIDE, sample_card, sample_mask
from svc_imagegen.usecases.acceptance import Refusal
from svc_imagegen.usecases.observe import Observe, features_of

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FINDING = Capability("paints", "oil-1", "mask", Support.UNSUPPORTED, "declared", NOW)


async def found(stage: Stage, *, n: int) -> dict[str, tuple[Support, str]]:
    """Return what was probed once there are n findings; the last are recorded right after their jobs have ended."""
    for _ in range(400):
        rows = [it for it in await stage.capabilities.list_all() if it.evidence.startswith("probed")]
        if len(rows) >= n:
            break
        await asyncio.sleep(0.02)
    return {it.feature: (it.support, it.evidence) for it in rows}


async def test_plan_tells_each_price_and_calls_nobody() -> None:
    provider = PaintingProvider()
    async with staged(provider) as stage:
        plan = await stage.gateway.probe("paints", model=None, feature=None, spend=False)
        jobs = await stage.jobs.list_jobs(ACCOUNT, limit=10, before=None)

    assert [(it["feature"], it["credits"]) for it in plan["data"]] == [
        ("generation", "40"), ("edit", "45"), ("edit_multi", "50"), ("mask", "45"),
    ]  # fmt: skip
    assert plan["total_credits"] == "180"
    assert not plan["is_spending"]
    assert not provider.requests
    assert not jobs


async def test_spending_makes_one_paid_job_a_feature_and_records_it_as_evidence() -> None:
    provider = PaintingProvider()
    async with staged(provider) as stage:
        made = await stage.gateway.probe("paints", model="oil-1", feature=None, spend=True)
        findings = await found(stage, n=4)
        jobs = await stage.jobs.list_jobs(ACCOUNT, limit=10, before=None)

    assert len(provider.requests) == len(jobs) == 4
    assert sum(it.charged_microcredits for it in jobs) == 180 * CREDIT
    for step in made["data"]:
        assert findings[step["feature"]] == (Support.SUPPORTED, f"probed {step['job_id']}")
    by_feature = {step["feature"]: step["job_id"] for step in made["data"]}
    masked = next(it for it in jobs if it.job_id == by_feature["mask"])
    assert masked.request.mask is not None
    assert len(next(it for it in jobs if it.job_id == by_feature["edit_multi"]).request.pictures) == 2


async def test_second_probe_finds_nothing_unknown() -> None:
    async with staged(PaintingProvider()) as stage:
        await stage.gateway.probe("paints", model=None, feature=None, spend=True)
        await found(stage, n=4)
        again = await stage.gateway.probe("paints", model=None, feature=None, spend=True)

    assert again["data"] == []


async def test_provider_that_says_no_is_recorded_as_unsupported_and_not_charged() -> None:
    async with staged(PaintingProvider(faults=frozenset({"no mask"}))) as stage:
        await stage.gateway.probe("paints", model=None, feature="mask", spend=True)
        findings = await found(stage, n=1)
        (job,) = await stage.jobs.list_jobs(ACCOUNT, limit=10, before=None)

    assert findings["mask"][0] is Support.UNSUPPORTED
    assert job.charged_microcredits == 0


async def test_failure_that_says_nothing_about_the_feature_leaves_it_unknown() -> None:
    async with staged(PaintingProvider(faults=frozenset({"policy"}))) as stage:
        (step,) = (await stage.gateway.probe("paints", model=None, feature="edit", spend=True))["data"]
        while not (await stage.gateway.job(step["job_id"])).is_final:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)

        assert await stage.capabilities.list_all() == []


@pytest.mark.parametrize(
    ("fault", "feature", "support"),
    [
        ("wrong format", "output_format:webp", Support.UNSUPPORTED),
        ("wrong size", "size:96x64", Support.UNSUPPORTED),
        ("none", "output_format:webp", Support.SUPPORTED),
        ("none", "size:96x64", Support.SUPPORTED),
    ],
)
async def test_picture_decides_about_sizes_and_formats(fault: str, feature: str, support: Support) -> None:
    async with staged(PaintingProvider(faults=frozenset({fault}))) as stage:
        await stage.gateway.probe("paints", model="oil-1", feature=feature, spend=True)
        findings = await found(stage, n=1)

    assert findings[feature][0] is support


async def test_without_a_price_nothing_is_called() -> None:
    provider = PaintingProvider()
    async with staged(provider, is_priced=False) as stage:
        made = await stage.gateway.probe("paints", model=None, feature=None, spend=True)

    assert all(it["credits"] is None and it["job_id"] is None and it["refusal"] for it in made["data"])
    assert not provider.requests


async def test_simulated_provider_proves_nothing() -> None:
    async with staged() as stage:
        (step,) = (await stage.gateway.probe("simulated", model=None, feature="mask", spend=True))["data"]
        while not (await stage.gateway.job(step["job_id"])).is_final:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)

        assert await stage.capabilities.list_all() == []


async def test_customers_still_may_not_use_what_is_unknown_while_it_is_probed() -> None:
    async with staged(PaintingProvider()) as stage:
        await stage.gateway.probe("paints", model=None, feature="mask", spend=False)

        with pytest.raises(Refusal, match="capability_unknown"):
            await stage.gateway.submit(
                "paints/oil-1", _cell(), prompt="x", pictures=[sample_card(hue=0)], mask=sample_mask()
            )


@pytest.mark.parametrize(("provider", "feature"), [("nobody", None), ("paints", "video"), ("paints", "seed:7")])
async def test_unknown_provider_or_feature_is_refused_by_name(provider: str, feature: str | None) -> None:
    async with staged(PaintingProvider()) as stage:
        with pytest.raises(Refusal, match=r"model_not_found|invalid_value"):
            await stage.gateway.probe(provider, model=None, feature=feature, spend=True)


@pytest.mark.parametrize(("spend", "code"), [(False, 2), (True, 0)])
async def test_command_spends_only_when_it_is_told_to(spend: bool, code: int) -> None:
    provider = PaintingProvider()
    async with staged(provider) as stage:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "svc_imagegen.adapters.operator_run", "probe", "paints", "--url", stage.url,
            "--poll-s", "0.02", *(["--spend"] if spend else []),
            env=dict(os.environ) | {"QRAFT_API_KEY": stage.key}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()

    assert process.returncode == code, said.decode()
    assert b"up to 180 credits in all" in said
    assert len(provider.requests) == (4 if spend else 0)


def test_samples_are_pictures_of_one_size() -> None:
    for data in (sample_card(hue=0), sample_card(hue=1), sample_mask()):
        layout = read_layout(data)
        assert (layout.width, layout.height, layout.end) == (SIDE, SIDE, len(data))
    assert len({sample_card(hue=i) for i in range(3)}) == 3


async def test_success_of_a_customers_job_is_noted_once_as_observed() -> None:
    capabilities = MemoryCapabilityStore()
    observe = Observe(capabilities, clock=SystemClock())
    request = ImageRequest(operation=Operation.EDIT, model="oil-1", prompt="x", references=(_reference(), _reference()))
    job = make_job("j1", provider="paints", request=request, is_simulated=False)

    await observe(job)
    await observe(make_job("j2", provider="paints", request=request, is_simulated=False))

    assert {(it.feature, it.evidence) for it in await capabilities.list_all()} == {
        ("edit", "observed j1"), ("edit_multi", "observed j1"),
    }  # fmt: skip


async def test_simulated_job_is_never_noted() -> None:
    capabilities = MemoryCapabilityStore()

    await Observe(capabilities, clock=SystemClock())(make_job(is_simulated=True))

    assert await capabilities.list_all() == []


async def test_success_overrules_an_older_no_and_a_store_that_is_away_costs_nothing_else() -> None:
    capabilities = MemoryCapabilityStore()
    await capabilities.record(FINDING)
    request = ImageRequest(
        operation=Operation.EDIT, model="oil-1", prompt="x", references=(_reference(), _reference("mask"))
    )
    job = make_job(provider="paints", request=request, is_simulated=False)

    await Observe(_Away(), clock=FixedClock(NOW))(job)
    await Observe(capabilities, clock=SystemClock())(job)

    assert await capabilities.support("paints", "oil-1", "mask") is Support.SUPPORTED


def test_features_of_a_request_are_named_as_the_gate_names_them() -> None:
    request = ImageRequest(
        operation=Operation.EDIT, model="m", prompt="x", size="64x64", references=(_reference(), _reference("mask"))
    )

    assert features_of(request) == (
        "edit", "mask", "size:64x64", "quality:auto", "background:auto", "output_format:png",
    )  # fmt: skip


class _Away(MemoryCapabilityStore):
    async def support(self, provider: str, model: str, feature: str) -> Support:
        raise Transient("postgres_away", "gone")


def _reference(role: str = "image") -> Reference:
    return Reference("k", "0" * 64, "image/png", 8, 8, 9, role)


def _cell() -> Cell:
    return Cell("edit with a mask", "64x64", "low", n_references=1, has_mask=True)
