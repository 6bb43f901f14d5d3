-- The credit ledger. events is the truth, append-only and chained by hash; head, accounts, holds, grants and
-- price_versions are projections of it, written in the same transaction. Amounts are micro-credits.

-- body: canonical JSON of the event; the columns beside it repeat what is searched for. hash = SHA-256 over the hash of
-- seq - 1 (32 zero bytes before the first) and body. hold_id: of the events that change a hold.
CREATE TABLE billing.events (
    seq          bigint PRIMARY KEY CHECK (seq > 0),
    operation_id text NOT NULL,
    kind         text NOT NULL,
    account_id   text NOT NULL,
    account_seq  bigint NOT NULL CHECK (account_seq > 0),
    hold_id      text,
    at           timestamptz NOT NULL,
    body         bytea NOT NULL,
    hash         bytea NOT NULL CHECK (length(hash) = 32),
    CONSTRAINT operation_once UNIQUE (operation_id),
    CONSTRAINT account_seq_once UNIQUE (account_id, account_seq)
);
-- A hold is settled, voided or expired at most once. A resolved hold is read from here, it has no row in holds.
CREATE UNIQUE INDEX hold_resolved_once ON billing.events (hold_id)
    WHERE kind IN ('hold_settled', 'hold_voided', 'hold_expired');
CREATE INDEX hold_changed_later ON billing.events (hold_id, seq)
    WHERE kind IN ('settlement_refunded', 'late_success_recorded');
CREATE INDEX usage_booked ON billing.events (seq) WHERE kind = 'usage_booked';

-- The end of the chain, one row. Whoever appends locks it first, so that one batch at a time is decided.
CREATE TABLE billing.head (
    is_head       boolean PRIMARY KEY DEFAULT true CHECK (is_head),
    seq           bigint NOT NULL CHECK (seq >= 0),
    hash          bytea NOT NULL CHECK (length(hash) = 32),
    price_version integer NOT NULL CHECK (price_version >= 0)
);
INSERT INTO billing.head (seq, hash, price_version) VALUES (0, decode(repeat('00', 32), 'hex'), 0);

-- seq: the account's newest account_seq. grants: those not used up, in the order of spending, as JSON arrays of
-- grant_id, category, priority, expires_at, remaining, held, state. Free space keeps updates on their page.
CREATE TABLE billing.accounts (
    account_id text PRIMARY KEY,
    is_open    boolean NOT NULL,
    seq        bigint NOT NULL CHECK (seq > 0),
    available  bigint NOT NULL CONSTRAINT available_not_negative CHECK (available >= 0),
    held       bigint NOT NULL CONSTRAINT held_not_negative CHECK (held >= 0),
    spent      bigint NOT NULL CHECK (spent >= 0),
    shortfall  bigint NOT NULL CHECK (shortfall >= 0),
    granted    bigint NOT NULL CHECK (granted >= 0),
    lapsed     bigint NOT NULL CHECK (lapsed >= 0),
    grants     text NOT NULL,
    CONSTRAINT credits_are_accounted_for CHECK (granted + shortfall = available + held + spent + lapsed)
) WITH (fillfactor = 50);

-- The open holds, and only they: a row comes with the reserve and goes with the resolution, so that the table stays as
-- small as the work in flight. parts: what was taken from which grant, as JSON arrays of grant_id, amount.
CREATE TABLE billing.holds (
    hold_id           text PRIMARY KEY,
    account_id        text NOT NULL,
    purpose           text NOT NULL,
    state             text NOT NULL CHECK (state IN ('held', 'disputed')),
    amount            bigint NOT NULL CHECK (amount >= 0),
    made_at           timestamptz NOT NULL,
    expires_at        timestamptz,
    is_refund_failing boolean NOT NULL,
    parts             text NOT NULL,
    made_seq          bigint NOT NULL,
    last_seq          bigint NOT NULL CHECK (last_seq >= made_seq),
    CONSTRAINT lease_while_held CHECK ((expires_at IS NOT NULL) = (state = 'held'))
) WITH (autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0);

-- Every hold that ever was, for lists; the ledger itself reads the table and the events.
CREATE VIEW billing.hold_states AS
SELECT hold_id, account_id, purpose, state, amount, 0::bigint AS settled, 0::bigint AS refunded, made_at, expires_at,
    is_refund_failing, false AS is_late, parts, made_seq, last_seq, NULL::bigint AS resolved_seq
FROM billing.holds
UNION ALL
SELECT resolved.hold_id, resolved.account_id, hold ->> 1, hold ->> 0, (hold ->> 2)::bigint, (hold ->> 3)::bigint,
    (hold ->> 4)::bigint, (hold ->> 5)::timestamptz, (hold ->> 6)::timestamptz, (hold ->> 7)::boolean,
    (hold ->> 8)::boolean, '[]', (hold ->> 10)::bigint, (hold ->> 11)::bigint, resolved.seq
FROM billing.events resolved
CROSS JOIN LATERAL (
    SELECT convert_from(coalesce((
        SELECT later.body FROM billing.events later
        WHERE later.hold_id = resolved.hold_id AND later.kind IN ('settlement_refunded', 'late_success_recorded')
        ORDER BY later.seq DESC LIMIT 1
    ), resolved.body), 'UTF8')::jsonb -> 'hold' AS hold
) newest
WHERE resolved.kind IN ('hold_settled', 'hold_voided', 'hold_expired');

CREATE TABLE billing.grants (
    grant_id   text PRIMARY KEY,
    account_id text NOT NULL,
    category   text NOT NULL CHECK (category IN ('paid', 'promotional', 'refund')),
    priority   integer NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),
    expires_at timestamptz,
    made_seq   bigint NOT NULL,
    closed_seq bigint CHECK (closed_seq > made_seq)
);
CREATE INDEX grants_of_account ON billing.grants (account_id, made_seq);
CREATE INDEX grants_expiring ON billing.grants (expires_at) WHERE closed_seq IS NULL AND expires_at IS NOT NULL;

-- rules: JSON.
CREATE TABLE billing.price_versions (
    version integer PRIMARY KEY CHECK (version > 0),
    seq     bigint NOT NULL UNIQUE,
    rules   text NOT NULL
);

CREATE FUNCTION billing.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'billing.% is append-only: % refused', TG_TABLE_NAME, TG_OP;
END
$body$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.events
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.price_versions
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON billing.holds
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER never_removed BEFORE DELETE OR TRUNCATE ON billing.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER never_removed BEFORE DELETE OR TRUNCATE ON billing.grants
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER never_removed BEFORE DELETE OR TRUNCATE ON billing.head
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
