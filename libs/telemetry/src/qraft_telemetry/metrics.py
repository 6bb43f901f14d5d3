"""
Every metric of Qraft, with its unit in the name and what to do when it moves.

Prometheus names end in the unit; counters in _total. Services use these objects and make none of their own.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

MESSAGES_HANDLED = Counter(
    "qraft_messages_handled_total",
    "Messages handled, by outcome (ok, malformed, refused, transient, later, poison, fatal). "
    "Malformed or poison rising: read deadletter.>; transient or later rising: a server or provider is away.",
    ("durable", "outcome"),
)
MESSAGES_REFUSED = Counter(
    "qraft_messages_refused_total",
    "Messages or rows turned away by a rule, by reason. A jump means that an input changed; the reason names it.",
    ("service", "reason"),
)
HANDLE_SECONDS = Histogram(
    "qraft_handle_seconds",
    "Time to handle one message, publish included. p99 near the ack wait: the service is overloaded.",
    ("durable",),
    buckets=_LATENCY_BUCKETS,
)
PUBLISH_SECONDS = Histogram(
    "qraft_publish_seconds",
    "Time until the stream confirmed a publish. Rising: the disk of the bus is slow or full.",
    ("subject",),
    buckets=_LATENCY_BUCKETS,
)
PUBLISHED = Counter(
    "qraft_messages_published_total",
    "Messages stored, by whether the id was stored before. Duplicates are normal after a restart only.",
    ("subject", "duplicate"),
)
WORK_IN_PROGRESS = Gauge(
    "qraft_work_in_progress",
    "Messages of a work queue with a handler of this process. At its cap for long: more work than workers may do.",
    ("durable",),
)
REQUEST_SECONDS = Histogram(
    "qraft_request_seconds",
    "Time from a question on the bus to its answer, time-outs included. Rising: the answering service is overloaded.",
    ("subject",),
    buckets=_LATENCY_BUCKETS,
)
REQUESTS_FAILED = Counter(
    "qraft_requests_failed_total",
    "Questions without an answer, by reason (no_responders, request_timeout, bus_away). no_responders: the answering "
    "service is down; request_timeout: it hangs or died in the middle.",
    ("subject", "reason"),
)
ANSWERS = Counter(
    "qraft_answers_total",
    "Questions answered, by outcome (ok, malformed, refused, transient, overloaded, dropped, fatal). overloaded: more "
    "come than can be done; dropped: the connection was lost before the answer could leave.",
    ("subject", "outcome"),
)
DEAD_LETTERS = Counter(
    "qraft_dead_letters_total",
    "Messages moved to deadletter.<stream>. Any: read them with `qraft tail deadletter.>`.",
    ("stream", "reason"),
)
OUTBOX_PENDING = Gauge(
    "qraft_outbox_pending_rows",
    "Journal rows not yet published. Rising: the bus is away; they go out when it is back.",
    ("schema",),
)
BUS_CONNECTED = Gauge("qraft_bus_connected", "1 = connected to the bus. 0 for more than a minute: check nats-server.")
BARS_INGESTED = Counter("qraft_bars_ingested_total", "Bar rows published.", ("market", "origin"))
STATE_FAULTS = Counter(
    "qraft_state_faults_total",
    "Stretches of bars that went out without a table of the market's state because it could not be read, by table. "
    "Any: `qraft data audit` names the damage; collect the table again.",
    ("table",),
)
BAR_FAULTS = Counter(
    "qraft_bar_faults_total",
    "Rows reported and not used or not whole: gap, duplicate, revision, late, out_of_order, impossible. "
    "`qraft doctor` and the quality report name the bars.",
    ("market", "kind"),
)
FEED_ROWS = Counter(
    "qraft_feed_rows_total",
    "Rows of polled feeds by outcome (new, revised, quarantined). quarantined rising: the venue changed a unit or a "
    "format; lake/refused and the table's quarantine hold the rows.",
    ("market", "kind", "outcome"),
)
FEED_AGE = Gauge(
    "qraft_feed_age_seconds",
    "Age of the newest event of a polled feed, of the symbol furthest behind. Above the dictionary's stale_after_s the "
    "line reads it as missing: see GET /api/feeds.",
    ("market", "kind"),
)
FEED_ERRORS = Counter(
    "qraft_feed_errors_total",
    "Polls that failed, by reason. exchange_banned, exchange_away: the venue; schema_drift: it changed its format; "
    "too_many_rows, not_polled: a hole, whose intervals stay missing.",
    ("market", "kind", "reason"),
)
STAGE_SECONDS = Histogram(
    "qraft_stage_seconds",
    "Pure compute of one stage for one bar: features, inference, allocate, journal.",
    ("stage",),
    buckets=_LATENCY_BUCKETS,
)
MODEL_ACTIVE = Gauge("qraft_model_active", "1 for the model active in a slot.", ("horizon", "model_id"))
EQUITY = Gauge("qraft_paper_equity_quote", "Equity of the paper account, quote currency.", ("market",))
DRAWDOWN = Gauge("qraft_paper_drawdown_frac", "Drawdown from the highest equity, fraction.", ("market",))
ORDERS = Counter("qraft_paper_orders_total", "Paper orders decided.", ("market", "policy"))
KILL_SWITCH = Gauge("qraft_kill_switch_engaged", "1 = no new orders. `qraft execution resume` after finding out why.")
