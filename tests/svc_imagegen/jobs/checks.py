"""What has to hold after any crash, asked of the databases and the provider themselves."""

from __future__ import annotations

import asyncio
import json

from tests.svc_imagegen.jobs.stage import ACCOUNT, PRICE_MICROCREDITS, Stage


async def check_everything(found: Stage) -> None:
    """Every hold was resolved once, nothing was paid twice, what was charged can be downloaded, the ledger holds."""
    assert all(n <= 1 for n in found.upstream.paid.values()), found.upstream.paid
    jobs = found.jobs()
    for job in jobs:
        is_charged = job["charged_microcredits"] > 0
        assert is_charged == (job["money"] == "settled") and job["money"] in ("settled", "voided"), job
        assert job["charged_microcredits"] in (0, PRICE_MICROCREDITS * len(job["asset_ids"])), job
        assert (job["state"] == "succeeded") == bool(job["asset_ids"]), job
    twice = found.sql(
        "SELECT count(*) FROM (SELECT hold_id FROM billing.events WHERE kind IN"
        " ('hold_settled', 'hold_voided', 'hold_expired') GROUP BY hold_id HAVING count(*) > 1) it"
    )
    reserved = found.sql("SELECT count(*) FROM billing.events WHERE kind = 'credits_reserved'")
    resolved = found.sql(
        "SELECT count(*) FROM billing.events r WHERE r.kind = 'credits_reserved' AND EXISTS"
        " (SELECT FROM billing.events e WHERE e.hold_id = r.hold_id"
        " AND e.kind IN ('hold_settled', 'hold_voided', 'hold_expired'))"
    )
    assert (twice, resolved) == ("0", reserved)
    verified = await asyncio.to_thread(found.command, "svc_billing", "verify", "--json")
    assert verified
    spent = sum(it["charged_microcredits"] for it in jobs)
    booked = found.sql(f"SELECT row_to_json(a) FROM billing.accounts a WHERE account_id = '{ACCOUNT}'")
    account = json.loads(booked)
    assert (account["spent"], account["held"]) == (spent, 0), (account, spent)
    for job in jobs:
        for asset_id in job["asset_ids"]:
            assert len(await _download(found, asset_id)) > 0


async def _download(found: Stage, asset_id: str) -> bytes:
    headers = {"Authorization": f"Bearer {found.key}"}
    url = f"http://127.0.0.1:{found.port}/api/assets/{asset_id}/content"
    async with found.http.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()
