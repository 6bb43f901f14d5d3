-- qraft_bus.outbox.TABLE_SQL as it stood; a test compares the tables.
CREATE TABLE imagegen.outbox (
    id           bigserial   PRIMARY KEY,
    message_id   text        NOT NULL UNIQUE,
    subject      text        NOT NULL,
    schema_name  text        NOT NULL,
    payload      bytea       NOT NULL,
    as_of        timestamptz NOT NULL,
    origin       text        NOT NULL CHECK (origin IN ('real', 'replay', 'simulated')),
    lineage      text        NOT NULL,
    cause        jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON imagegen.outbox (id) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON imagegen.outbox (published_at) WHERE published_at IS NOT NULL;

-- One new row, as the adapter gives it.
CREATE TYPE imagegen.outbox_row AS (
    message_id text, subject text, schema_name text, payload bytea, as_of timestamptz, origin text, lineage text
);
