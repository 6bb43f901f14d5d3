-- The registry's history: rows are added and never changed. What is active is the fold of it.
CREATE TABLE registry.history (
    seq               bigint PRIMARY KEY CHECK (seq > 0),
    decision_id       text NOT NULL UNIQUE,
    action            text NOT NULL CHECK (action IN ('candidate', 'activated', 'rolled_back', 'refused')),
    model_id          text NOT NULL,
    symbol_group      text NOT NULL,
    horizon           text NOT NULL CHECK (horizon IN ('1h', '4h', '1d', '7d')),
    stage             text NOT NULL CHECK (stage IN ('candidate', 'paper', 'qualified')),
    actor             text NOT NULL CHECK (btrim(actor) <> ''),
    reason            text NOT NULL CHECK (btrim(reason) <> ''),
    decided_at        timestamptz NOT NULL,
    origin            text NOT NULL CHECK (origin IN ('real', 'replay', 'simulated')),
    evidence          jsonb NOT NULL,
    previous_model_id text,
    refusal           text,
    CHECK ((action = 'refused') = (refusal IS NOT NULL)),
    -- The gates of `qualified` do not exist yet, and simulated never passes a gate: the database says so too.
    CHECK (action NOT IN ('activated', 'rolled_back') OR (stage = 'paper' AND origin <> 'simulated'))
);

CREATE FUNCTION registry.forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'registry.history is append-only: % is forbidden', TG_OP USING ERRCODE = 'restrict_violation';
END;
$$;

CREATE TRIGGER history_is_append_only BEFORE UPDATE OR DELETE ON registry.history
    FOR EACH ROW EXECUTE FUNCTION registry.forbid_change();

CREATE TRIGGER history_is_never_truncated BEFORE TRUNCATE ON registry.history
    FOR EACH STATEMENT EXECUTE FUNCTION registry.forbid_change();
