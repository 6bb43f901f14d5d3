"""The operator's commands, run as an operator runs them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.svc_imagegen.jobs.kit import at, make_job, submitted

from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.jobs_postgres import PostgresJobStore

pytestmark = pytest.mark.postgres


@pytest.fixture
def run(postgres_dsn: str, tmp_path: Path):  # type: ignore[no-untyped-def]
    env = os.environ | {"QRAFT_POSTGRES_DSN": postgres_dsn, "QRAFT_HOME": str(tmp_path)}

    def command(*arguments: str, code: int = 0, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "svc_imagegen", *arguments], env=env | more, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return command


async def test_keys_are_made_listed_and_revoked_and_their_text_is_shown_once(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
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


async def test_jobs_are_listed_and_one_is_shown_with_all_that_happened(run, postgres_dsn: str) -> None:  # type: ignore[no-untyped-def]
    database = Database(postgres_dsn)
    await database.open()
    store = PostgresJobStore(database, stored=lambda _ids, _has_messages: None)
    job = make_job(prompt="a lighthouse")
    await submitted(store, job)
    await store.record_uncertain(
        job.job_id, cause="provider_error", detail="502\x1b[2J", provider_request_id="p-1", now=at(3),
        next_check_at=at(33),
    )  # fmt: skip
    await store.close()
    await database.close()

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
def test_wrong_arguments_end_with_2(run, arguments: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    run(*arguments, code=2)


def test_a_database_that_is_away_is_said_in_one_sentence(run) -> None:  # type: ignore[no-untyped-def]
    said = run("jobs", code=1, QRAFT_POSTGRES_DSN="postgresql://nobody@/none?host=/nowhere")

    assert said.startswith("svc_imagegen: a server is away (postgres_away") and said.count("\n") == 1
