-- API keys: the SHA-256 of their text, never the text.
CREATE TABLE imagegen.api_keys (
    key_id     text        PRIMARY KEY,
    sha256     text        NOT NULL UNIQUE CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    account_id text        NOT NULL,
    name       text        NOT NULL,
    scopes     text[]      NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- The newest finding of each feature of each model.
CREATE TABLE imagegen.capabilities (
    provider text        NOT NULL,
    model    text        NOT NULL,
    feature  text        NOT NULL,
    support  text        NOT NULL CHECK (support IN ('supported', 'unsupported', 'unknown')),
    evidence text        NOT NULL,
    found_at timestamptz NOT NULL,
    PRIMARY KEY (provider, model, feature)
);
