"""How the bus behaves under load and failure. The defaults are what production runs; tests shorten the times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BusSettings:
    """
    Bounds of consuming, retrying, publishing and stopping.

    ack_wait_s: after this long without acknowledgement or heartbeat a message is delivered again. It bounds how
        long a message in progress waits after its process was killed; heartbeats go out every third of it.
    batch_size: messages fetched at once, and MaxAckPending. 1 keeps a new message's latency at one hop; more
        adds up to linger_s to every message that does not come in a burst.
    linger_s: how long a batch larger than 1 waits for more messages. Unused at batch_size 1.
    idle_fetch_s: how long one fetch waits for a message; also the longest pause after a reconnect.
    max_deliveries: a message delivered more often than this is dead-lettered as `poison`.
    transient_budget_s: how long a message is retried in place while something outside is away. Five restarts
        (max_deliveries) of this length pass before an outage can be mistaken for poison: 25 minutes.
    backoff_first_s, backoff_max_s: pause after the first failed attempt, doubling up to the largest pause.
    dead_letter_window, dead_letter_min, dead_letter_frac_max: when more than this fraction of the last messages
        (at most `window`, judged from `min` messages on) would be dead letters, the consumer stops instead.
    publish_timeout_s: one attempt; longer than a slow fsync queue (0.58 s was measured at 5 ms a sync).
    publish_budget_s: all attempts of one publish together.
    connect_timeout_s: how long `start` waits for the server.
    watch_interval_s: pause between two checks that streams and durables still exist.
    drain_timeout_s: how long `drain` waits for handlers in progress.
    """

    ack_wait_s: float = 5.0
    batch_size: int = 1
    linger_s: float = 0.005
    idle_fetch_s: float = 1.0
    max_deliveries: int = 5
    transient_budget_s: float = 300.0
    backoff_first_s: float = 0.05
    backoff_max_s: float = 5.0
    dead_letter_window: int = 100
    dead_letter_min: int = 20
    dead_letter_frac_max: float = 0.5
    publish_timeout_s: float = 5.0
    publish_budget_s: float = 15.0
    connect_timeout_s: float = 60.0
    watch_interval_s: float = 2.0
    drain_timeout_s: float = 20.0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_deliveries < 1:
            raise ValueError(
                f"expected batch_size and max_deliveries of at least 1, received {self.batch_size} and "
                f"{self.max_deliveries}"
            )
        if not 0 < self.publish_timeout_s <= self.publish_budget_s:
            raise ValueError(
                f"expected 0 < publish_timeout_s <= publish_budget_s, received {self.publish_timeout_s} and "
                f"{self.publish_budget_s}"
            )
