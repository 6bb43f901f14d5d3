-- What lets a whole batch be stored in one statement: rows say which state of a job they were made from, and accepting
-- looks for joins on the server.

-- Counts every update, unlike version, which counts what somebody may wait for.
ALTER TABLE imagegen.jobs ADD COLUMN revision bigint NOT NULL DEFAULT 0;
ALTER TYPE imagegen.job_change ADD ATTRIBUTE revision bigint;

-- Stored jobs that calls may belong to: by account and idempotency key; by fingerprint since an instant, of those any job
-- where the call is a retry, else only a retry's.
CREATE FUNCTION imagegen.joinable(
    accounts text[], keys text[], fingerprints text[], since timestamptz[], are_retries boolean[]
) RETURNS SETOF imagegen.jobs LANGUAGE sql STABLE AS $$
    SELECT j.* FROM unnest(accounts, keys) AS w (account_id, idempotency_key)
    JOIN imagegen.jobs j ON j.account_id = w.account_id AND j.idempotency_key = w.idempotency_key
    UNION ALL
    SELECT j.* FROM unnest(fingerprints, since, are_retries) AS w (fingerprint, since, is_retry)
    CROSS JOIN LATERAL (
        SELECT * FROM imagegen.jobs j
        WHERE j.fingerprint = w.fingerprint AND j.created_at >= w.since AND j.idempotency_key IS NULL
          AND (w.is_retry OR j.retry_count > 0)
        ORDER BY j.created_at DESC, j.job_id DESC LIMIT 1
    ) j
$$;

-- Store new jobs with what the outbox tells of them, and let go of messages that were published, unless one of the calls may belong to a stored job: then those jobs
-- are returned and nothing is stored. Accepting batches of all gateways alternate by the lock; every statement of such a
-- function sees what was committed before it began, so the look behind the lock misses nobody.
CREATE FUNCTION imagegen.accept_jobs(
    new_jobs imagegen.jobs[], told imagegen.outbox_row[], published text[],
    accounts text[], keys text[], fingerprints text[], since timestamptz[], are_retries boolean[]
) RETURNS SETOF imagegen.jobs LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('imagegen.accept'));
    RETURN QUERY SELECT * FROM imagegen.joinable(accounts, keys, fingerprints, since, are_retries);
    IF NOT FOUND THEN
        INSERT INTO imagegen.jobs SELECT it.* FROM unnest(new_jobs) AS it;
        INSERT INTO imagegen.outbox (message_id, subject, schema_name, payload, as_of, origin, lineage, cause)
        SELECT it.*, '{}'::jsonb FROM unnest(told) AS it;
        DELETE FROM imagegen.outbox WHERE id IN (
            SELECT id FROM imagegen.outbox WHERE message_id = ANY(published) FOR UPDATE SKIP LOCKED
        );
    END IF;
END $$;
