-- The jobs of the image service: the truth about each picture that was asked for. Amounts are micro-credits; whose they
-- are is the ledger's business (svc_billing), here stands only how far this service has come with them.

CREATE TABLE imagegen.jobs (
    job_id                  text        PRIMARY KEY,
    account_id              text        NOT NULL,
    key_id                  text        NOT NULL,
    provider                text        NOT NULL,
    model                   text        NOT NULL,
    operation               text        NOT NULL CHECK (operation IN ('generation', 'edit', 'variation')),
    -- JSON as bytes: prompts may hold what text and jsonb refuse (U+0000), and nothing is searched in it.
    request                 bytea       NOT NULL,
    is_simulated            boolean     NOT NULL,
    held_microcredits       bigint      NOT NULL CHECK (held_microcredits >= 0),
    price_version           integer     NOT NULL,
    per_image_microcredits  bigint      NOT NULL CHECK (per_image_microcredits >= 0),
    references_microcredits bigint      NOT NULL CHECK (references_microcredits >= 0),
    created_at              timestamptz NOT NULL,
    deadline_at             timestamptz NOT NULL,
    fingerprint             text        NOT NULL,
    retry_count             integer     NOT NULL,
    idempotency_key         text,
    -- From here on what changes; see job_change.
    state                   text        NOT NULL,
    money                   text        NOT NULL,
    charged_microcredits    bigint      NOT NULL CHECK (charged_microcredits >= 0),
    loss_microcredits       bigint      NOT NULL CHECK (loss_microcredits >= 0),
    n_attempts              integer     NOT NULL CHECK (n_attempts >= 0),
    n_checks                integer     NOT NULL,
    n_told                  integer     NOT NULL,
    version                 integer     NOT NULL,
    started_at              timestamptz,
    finished_at             timestamptz,
    updated_at              timestamptz,
    next_check_at           timestamptz,
    retry_at                timestamptz,
    cause                   text        NOT NULL,
    detail                  text        NOT NULL,
    provider_request_id     text,
    asset_ids               text[]      NOT NULL,
    CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'uncertain', 'refund_failed', 'canceled')),
    CHECK (money IN ('held', 'settling', 'settled', 'voiding', 'voided', 'disputing', 'disputed', 'refund_failed')),
    -- A picture that was charged is there; nothing that was given back is charged; an end leaves nothing open.
    CHECK (money NOT IN ('settling', 'settled') OR cardinality(asset_ids) > 0),
    CHECK (money <> 'voided' OR charged_microcredits = 0),
    CHECK (state <> 'succeeded' OR (money IN ('settled', 'voided') AND cardinality(asset_ids) > 0)),
    CHECK (state NOT IN ('failed', 'canceled') OR money = 'voided'),
    CHECK (next_check_at IS NOT NULL OR state IN ('succeeded', 'failed', 'canceled'))
);
CREATE UNIQUE INDEX jobs_idempotency ON imagegen.jobs (account_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_fingerprint ON imagegen.jobs (fingerprint, created_at);
CREATE INDEX jobs_account ON imagegen.jobs (account_id, created_at, job_id);
CREATE INDEX jobs_due ON imagegen.jobs (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX jobs_pending ON imagegen.jobs (provider, created_at, job_id) WHERE state = 'pending';

-- One row of an update; the columns in the order in which the adapter gives them.
CREATE TYPE imagegen.job_change AS (
    job_id text, state text, money text, charged_microcredits bigint, loss_microcredits bigint, n_attempts integer,
    n_checks integer, n_told integer, version integer, started_at timestamptz, finished_at timestamptz,
    updated_at timestamptz, next_check_at timestamptz, retry_at timestamptz, cause text, detail text,
    provider_request_id text, asset_ids text[]
);

CREATE TABLE imagegen.attempts (
    job_id              text        NOT NULL REFERENCES imagegen.jobs,
    attempt             integer     NOT NULL CHECK (attempt > 0),
    worker_id           text        NOT NULL,
    lease_until         timestamptz NOT NULL,
    submitted_at        timestamptz,
    ended_at            timestamptz,
    outcome             text        NOT NULL,
    cause               text        NOT NULL,
    provider_request_id text,
    cost_microusd       bigint,
    PRIMARY KEY (job_id, attempt)
);
-- At most one submission of a job is under way.
CREATE UNIQUE INDEX attempts_open ON imagegen.attempts (job_id) WHERE ended_at IS NULL;

CREATE TABLE imagegen.assets (
    asset_id       text        PRIMARY KEY,
    job_id         text        NOT NULL REFERENCES imagegen.jobs,
    account_id     text        NOT NULL,
    index          integer     NOT NULL CHECK (index >= 0),
    artefact_key   text        NOT NULL,
    sha256         text        NOT NULL,
    media_type     text        NOT NULL,
    width          integer     NOT NULL CHECK (width > 0),
    height         integer     NOT NULL CHECK (height > 0),
    n_bytes        bigint      NOT NULL CHECK (n_bytes > 0),
    is_simulated   boolean     NOT NULL,
    provider       text        NOT NULL,
    model          text        NOT NULL,
    created_at     timestamptz NOT NULL,
    revised_prompt text,
    n_downloads    integer     NOT NULL,
    UNIQUE (job_id, index)
);

-- Every download as it ended; whole ones are counted on the asset.
CREATE TABLE imagegen.downloads (
    seq         bigserial   PRIMARY KEY,
    asset_id    text        NOT NULL REFERENCES imagegen.assets,
    at          timestamptz NOT NULL,
    n_bytes     bigint      NOT NULL CHECK (n_bytes >= 0),
    is_complete boolean     NOT NULL
);
CREATE INDEX downloads_asset ON imagegen.downloads (asset_id);

-- What was found and decided about uncertain outcomes and failing refunds. Append-only.
CREATE TABLE imagegen.audit (
    seq     bigserial   PRIMARY KEY,
    job_id  text        NOT NULL REFERENCES imagegen.jobs,
    at      timestamptz NOT NULL,
    finding text        NOT NULL,
    detail  text        NOT NULL
);
CREATE INDEX audit_job ON imagegen.audit (job_id, seq);
CREATE TYPE imagegen.audit_line AS (job_id text, at timestamptz, finding text, detail text);

CREATE FUNCTION imagegen.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON imagegen.audit
    FOR EACH STATEMENT EXECUTE FUNCTION imagegen.refuse_change();
