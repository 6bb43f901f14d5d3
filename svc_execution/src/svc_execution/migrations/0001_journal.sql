-- The journal of the paper account: the truth of orders, fills, positions and PnL. The stream only tells of it.
-- Everything but progress and targets_latest is append-only. Instants are event time; committed_at is wall time and
-- nothing is computed from it.

CREATE TABLE execution.progress (
    market          text PRIMARY KEY,
    interval        text NOT NULL,
    start_cash      double precision NOT NULL CHECK (start_cash > 0),
    last_bar_at     timestamptz,
    last_targets_at timestamptz CHECK (last_targets_at <= last_bar_at),
    origin          text,
    n_events        bigint NOT NULL DEFAULT 0
);

CREATE TABLE execution.orders (
    order_id          text PRIMARY KEY,
    market            text NOT NULL,
    symbol            text NOT NULL,
    side              text NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity          double precision NOT NULL CHECK (quantity > 0),
    decided_at        timestamptz NOT NULL,
    theoretical_price double precision NOT NULL CHECK (theoretical_price > 0),
    target_weight     double precision NOT NULL,
    position_before   double precision NOT NULL,
    policy            text NOT NULL CHECK (policy IN ('short', 'long')),
    reason            text NOT NULL,
    profile           text NOT NULL,
    origin            text NOT NULL,
    sigma_bar         double precision NOT NULL,
    committed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (market, decided_at, symbol)
);

CREATE TABLE execution.fills (
    fill_id           text PRIMARY KEY,
    order_id          text NOT NULL UNIQUE REFERENCES execution.orders,
    market            text NOT NULL,
    symbol            text NOT NULL,
    side              text NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity          double precision NOT NULL CHECK (quantity > 0),
    filled_at         timestamptz NOT NULL,
    theoretical_price double precision NOT NULL,
    fill_price        double precision NOT NULL CHECK (fill_price > 0),
    drift             double precision NOT NULL,
    half_spread       double precision NOT NULL CHECK (half_spread >= 0),
    slippage          double precision NOT NULL CHECK (slippage >= 0),
    impact            double precision NOT NULL CHECK (impact >= 0),
    fee               double precision NOT NULL CHECK (fee >= 0),
    participation     double precision NOT NULL CHECK (participation > 0),
    position_after    double precision NOT NULL,
    origin            text NOT NULL,
    committed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (market, symbol, filled_at)
);

CREATE TABLE execution.expiries (
    order_id     text PRIMARY KEY REFERENCES execution.orders,
    market       text NOT NULL,
    symbol       text NOT NULL,
    expired_at   timestamptz NOT NULL,
    quantity     double precision NOT NULL CHECK (quantity > 0),
    reason       text NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row a bar. held_*: the open positions, sorted by symbol; with the fills they give back every figure of the row.
CREATE TABLE execution.marks (
    market              text NOT NULL,
    closed_at           timestamptz NOT NULL,
    cash                double precision NOT NULL,
    equity              double precision NOT NULL,
    peak                double precision NOT NULL,
    drawdown            double precision NOT NULL,
    drawdown_max        double precision NOT NULL,
    fee                 double precision NOT NULL,
    half_spread         double precision NOT NULL,
    slippage            double precision NOT NULL,
    impact              double precision NOT NULL,
    drift               double precision NOT NULL,
    held_symbols        text[] NOT NULL,
    held_quantities     double precision[] NOT NULL,
    held_average_prices double precision[] NOT NULL,
    held_closes         double precision[] NOT NULL,
    origin              text NOT NULL,
    sha256              text NOT NULL,
    committed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (market, closed_at)
);

-- One row a bar: the targets that were decided on, or the hold in their place (sha256 null: none came).
CREATE TABLE execution.targets (
    market       text NOT NULL,
    as_of        timestamptz NOT NULL,
    sha256       text,
    profile      text,
    hold         boolean NOT NULL,
    hold_reason  text,
    n_orders     integer NOT NULL,
    origin       text NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (market, as_of)
);

CREATE TABLE execution.targets_latest (
    market  text PRIMARY KEY,
    as_of   timestamptz NOT NULL,
    profile text NOT NULL,
    summary bytea NOT NULL
);

-- sha256: of the refused message, so that a second, different message of one time is a row of its own.
CREATE TABLE execution.refusals (
    market       text NOT NULL,
    as_of        timestamptz NOT NULL,
    reason       text NOT NULL,
    sha256       text NOT NULL,
    n            integer NOT NULL CHECK (n > 0),
    examples     text[] NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (market, as_of, reason, sha256)
);

CREATE TABLE execution.kill_switch (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor   text NOT NULL CHECK (actor <> ''),
    engaged boolean NOT NULL,
    reason  text NOT NULL CHECK (reason <> '')
);

CREATE FUNCTION execution.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'execution.% is append-only: % refused', TG_TABLE_NAME, TG_OP;
END
$body$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.orders
    FOR EACH STATEMENT EXECUTE FUNCTION execution.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.fills
    FOR EACH STATEMENT EXECUTE FUNCTION execution.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.expiries
    FOR EACH STATEMENT EXECUTE FUNCTION execution.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.marks
    FOR EACH STATEMENT EXECUTE FUNCTION execution.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.targets
    FOR EACH STATEMENT EXECUTE FUNCTION execution.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.refusals
    FOR EACH STATEMENT EXECUTE FUNCTION execution.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.kill_switch
    FOR EACH STATEMENT EXECUTE FUNCTION execution.refuse_change();

-- The operator's switch: `SELECT execution.set_kill_switch('ann', true, 'prices look wrong')`. Returns the row's number.
CREATE FUNCTION execution.set_kill_switch(actor text, engaged boolean, reason text) RETURNS bigint
LANGUAGE sql AS $body$
    INSERT INTO execution.kill_switch (actor, engaged, reason) VALUES (actor, engaged, reason) RETURNING seq
$body$;
