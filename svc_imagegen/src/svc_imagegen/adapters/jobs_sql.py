"""The statements of the job store. Arrays of rows in, so that a batch costs as many trips as one job."""

from __future__ import annotations

from typing import Final

CHANGES_CHANNEL: Final = "imagegen_jobs"

# Locked in one order by everybody, so that two batches never wait for each other.
LOCK_JOBS: Final = "SELECT * FROM imagegen.jobs WHERE job_id = ANY($1) ORDER BY job_id FOR UPDATE"
# A statement of its own: joined to the one above, it would show the attempts as they were before waiting for the lock.
CURRENT_ATTEMPTS: Final = """
SELECT a.* FROM unnest($1::text[], $2::int[]) AS w (job_id, attempt)
JOIN imagegen.attempts a ON a.job_id = w.job_id AND a.attempt = w.attempt
"""

# $1 accounts and $2 their idempotency keys; $3 fingerprints, $4 since when, $5 whether any job of it may be joined.
JOINABLE: Final = "SELECT * FROM imagegen.joinable($1, $2, $3, $4, $5)"
# $1 new jobs, $2 outbox, $3 messages that have been published, the rest as above. Returns jobs that may be joined; then
# nothing was stored.
ACCEPT: Final = """
SELECT * FROM imagegen.accept_jobs($1::imagegen.jobs[], $2::imagegen.outbox_row[], $3, $4, $5, $6, $7, $8)
"""
# The same by hand, where jobs may be joined: look behind the lock, then store.
LOCK_ACCEPT: Final = "SELECT pg_advisory_xact_lock(hashtext('imagegen.accept'))"
# Keys that may be used again belong to nobody any more.
FREE_KEYS: Final = """
UPDATE imagegen.jobs j SET idempotency_key = NULL, revision = j.revision + 1
FROM unnest($1::text[], $2::text[]) AS w (account_id, idempotency_key)
WHERE j.account_id = w.account_id AND j.idempotency_key = w.idempotency_key
"""
STORE_NEW: Final = """
WITH new_jobs AS (
    INSERT INTO imagegen.jobs SELECT it.* FROM unnest($1::imagegen.jobs[]) AS it
)
INSERT INTO imagegen.outbox (message_id, subject, schema_name, payload, as_of, origin, lineage, cause)
SELECT it.*, '{}'::jsonb FROM unnest($2::imagegen.outbox_row[]) AS it
"""

# $1 changed jobs, $2 attempts, $3 assets, $4 audit, $5 outbox, $6 notices to CHANGES_CHANNEL, $7 published messages.
# Stores what was made from the newest revision of its job and returns the ids of those jobs; of the others nothing is
# stored. Notices are hints: one for a job that was not stored costs its watchers a look. Rows of the outbox that a
# relay has locked are about to be marked by it, and stay.
STORE: Final = """
WITH changed AS (
    UPDATE imagegen.jobs j
    SET state = it.state, money = it.money, charged_microcredits = it.charged_microcredits,
        loss_microcredits = it.loss_microcredits, n_attempts = it.n_attempts, n_checks = it.n_checks,
        n_told = it.n_told, version = it.version, started_at = it.started_at, finished_at = it.finished_at,
        updated_at = it.updated_at, next_check_at = it.next_check_at, retry_at = it.retry_at, cause = it.cause,
        detail = it.detail, provider_request_id = it.provider_request_id, asset_ids = it.asset_ids,
        revision = it.revision + 1
    FROM unnest($1::imagegen.job_change[]) AS it
    WHERE j.job_id = it.job_id AND j.revision = it.revision
    RETURNING j.job_id
), attempts AS (
    INSERT INTO imagegen.attempts
    SELECT it.* FROM unnest($2::imagegen.attempts[]) AS it WHERE it.job_id IN (SELECT job_id FROM changed)
    ON CONFLICT (job_id, attempt) DO UPDATE SET lease_until = excluded.lease_until,
        submitted_at = excluded.submitted_at, ended_at = excluded.ended_at, outcome = excluded.outcome,
        cause = excluded.cause, provider_request_id = excluded.provider_request_id,
        cost_microusd = excluded.cost_microusd
), assets AS (
    INSERT INTO imagegen.assets
    SELECT it.* FROM unnest($3::imagegen.assets[]) AS it WHERE it.job_id IN (SELECT job_id FROM changed)
), audit AS (
    INSERT INTO imagegen.audit (job_id, at, finding, detail)
    SELECT it.* FROM unnest($4::imagegen.audit_line[]) AS it WHERE it.job_id IN (SELECT job_id FROM changed)
), told AS (
    INSERT INTO imagegen.outbox (message_id, subject, schema_name, payload, as_of, origin, lineage, cause)
    SELECT it.*, '{}'::jsonb FROM unnest($5::imagegen.outbox_row[]) AS it
    WHERE it.lineage IN (SELECT 'job/' || job_id FROM changed)
    ON CONFLICT (message_id) DO NOTHING
), published AS (
    DELETE FROM imagegen.outbox WHERE id IN (
        SELECT id FROM imagegen.outbox WHERE message_id = ANY($7::text[]) FOR UPDATE SKIP LOCKED
    )
)
SELECT job_id FROM changed
UNION ALL SELECT pg_notify('imagegen_jobs', payload)::text FROM unnest($6::text[]) AS payload
"""

# The outbox of what this process could not publish itself, or did not live to.
FORGET_PUBLISHED: Final = """
DELETE FROM imagegen.outbox WHERE id IN (
    SELECT id FROM imagegen.outbox WHERE message_id = ANY($1) FOR UPDATE SKIP LOCKED
)
"""
# $1: written before this instant; or, when it is null, $2 seconds ago.
IS_LEFT: Final = """
SELECT EXISTS (
    SELECT FROM imagegen.outbox
    WHERE published_at IS NULL AND created_at < coalesce($1::timestamptz, now() - make_interval(secs => $2))
)
"""
NOW: Final = "SELECT clock_timestamp()"
# Rows that a relay has published stay for a while. $1 seconds, $2 rows at most.
PRUNE: Final = """
DELETE FROM imagegen.outbox WHERE id IN (
    SELECT id FROM imagegen.outbox WHERE published_at < now() - make_interval(secs => $1) ORDER BY published_at LIMIT $2
)
"""

GET: Final = "SELECT * FROM imagegen.jobs WHERE job_id = ANY($1)"
LIST: Final = """
SELECT j.* FROM imagegen.jobs j
WHERE j.account_id = $1 AND ($3::text IS NULL OR (j.created_at, j.job_id) < (
    SELECT e.created_at, e.job_id FROM imagegen.jobs e WHERE e.job_id = $3))
ORDER BY j.created_at DESC, j.job_id DESC LIMIT $2
"""
LIST_ALL: Final = """
SELECT * FROM imagegen.jobs
WHERE ($1::text IS NULL OR account_id = $1) AND ($2::text IS NULL OR state = $2)
ORDER BY created_at DESC, job_id DESC LIMIT $3
"""
PLACE: Final = """
SELECT 1 + count(*) FROM imagegen.jobs
WHERE state = 'pending' AND provider = $1 AND (created_at, job_id) < ($2, $3)
"""
DUE: Final = "SELECT * FROM imagegen.jobs WHERE next_check_at <= $1 ORDER BY next_check_at, job_id LIMIT $2"
AUDIT: Final = "SELECT at, finding, detail FROM imagegen.audit WHERE job_id = $1 ORDER BY seq"
ATTEMPTS: Final = "SELECT * FROM imagegen.attempts WHERE job_id = $1 ORDER BY attempt"
WHICH_EXIST: Final = "SELECT job_id FROM imagegen.jobs WHERE job_id = ANY($1)"
