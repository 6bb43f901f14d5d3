-- How far the relay has told the bus, and what the API and the weekly report look for. The cursor is the only row of
-- this schema that moves without an event: it decides no money, and the entries' ids make telling again harmless.
CREATE TABLE billing.relay_cursor (
    name text PRIMARY KEY,
    seq  bigint NOT NULL CHECK (seq >= 0)
);
INSERT INTO billing.relay_cursor (name, seq) VALUES ('ledger.entries', 0);

-- Settled holds are found fast enough by the primary key; these are few among many.
CREATE INDEX events_hold_given_back ON billing.events (kind, seq) WHERE kind IN ('hold_voided', 'hold_expired');
-- A week's usage was booked after the week began.
CREATE INDEX events_usage_booked_at ON billing.events (at) WHERE kind = 'usage_booked';
