"""The operator's commands, from the command line to the printed lines."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from tests.svc_imagegen.jobs.kit import at, make_job, postgres_stores, submitted

from svc_imagegen.__main__ import main
from svc_imagegen.domain.job import Job

pytestmark = pytest.mark.postgres


Run = Callable[..., str]


@pytest.fixture
def run(
    postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run one command as its process would, and return what it prints."""
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path))
    before = structlog.get_config()

    def command(*arguments: str, code: int = 0, dsn: str = postgres_dsn) -> str:
        monkeypatch.setenv("QRAFT_POSTGRES_DSN", dsn)
        monkeypatch.setattr(sys, "argv", ["svc_imagegen", *arguments])
        try:
            ended = main()
        except SystemExit as error:  # argparse
            ended = int(str(error.code))
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return printed.out if code == 0 else printed.err

    yield command
    structlog.configure(**before)
    logging.basicConfig(force=True)


def test_keys_are_made_listed_and_revoked_and_their_text_is_shown_once(run: Run, tmp_path: Path) -> None:
    made = json.loads(run("keys", "create", "acme", "--name", "bell \x07", "--json"))
    file = tmp_path / "key"
    run("keys", "create", "other", "--scope", "images:read", "--key-file", str(file))

    listed = run("keys", "list")

    assert made["key"] not in listed and made["key_id"] in listed and "\x07" not in listed
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() not in listed
    run("keys", "revoke", made["key_id"])
    assert "no key" in run("keys", "revoke", made["key_id"], code=1)
    assert [it["revoked_at"] is not None for it in json.loads(run("keys", "list", "--json"))] == [True, False]


async def _uncertain_job(dsn: str) -> Job:
    job = make_job(prompt="a lighthouse")
    async with postgres_stores(dsn) as (store, _):
        await submitted(store, job)
        await store.record_uncertain(
            job.job_id, cause="provider_error", detail="502\x1b[2J", provider_request_id="p-1", now=at(3),
            next_check_at=at(33),
        )  # fmt: skip
    return job


def test_jobs_are_listed_and_one_is_shown_with_all_that_happened(run: Run, postgres_dsn: str) -> None:
    job = asyncio.run(_uncertain_job(postgres_dsn))

    shown = run("job", job.job_id)
    as_json = json.loads(run("job", job.job_id, "--json"))

    assert job.job_id in run("jobs", "--account", "acme", "--state", "uncertain")
    assert job.job_id not in run("jobs", "--state", "failed")
    assert "uncertain" in shown and "0.02 credits held, checking" in shown and "p-1" in shown
    assert "lighthouse" not in shown + json.dumps(as_json), "the prompt is its owner's"
    assert "\x1b" not in shown
    assert [it["finding"] for it in as_json["audit"]] == ["uncertain"]
    assert "simulated-1" in run("providers")
    assert "no job" in run("job", "nobody", code=1)


@pytest.mark.parametrize("arguments", [("jobs", "--limit", "0"), ("keys", "create", "Not An Id"), ("paint",)])
def test_wrong_arguments_end_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    run(*arguments, code=2)


def test_a_database_that_is_away_is_said_in_one_sentence(run: Run) -> None:
    said = run("jobs", code=1, dsn="postgresql://nobody@/none?host=/nowhere")

    assert said.startswith("svc_imagegen: a server is away (postgres_away") and said.count("\n") == 1
