"""
Every JetStream stream, as data, and how to bring a server to it. Streams are never created by FastStream: it rewrites
a differing stream at start and does not know half of the options.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError

from qraft_telemetry import logs

DUPLICATE_WINDOW_S: Final = 600.0  # above every retry in this package; receivers are idempotent by key beyond it
MESSAGE_BYTES_MAX: Final = 1 << 20  # the server's own default; 500 symbols × 60 features × 4 bytes are 120 KB
_DAY_S: Final = 86_400.0
_MIB: Final = 1 << 20
_ALREADY_EXISTS_OTHERWISE: Final = 10058  # nats-server: stream name already in use with a different configuration


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """
    One stream on disk, kept by limits.

    keeps_old: at its limit the stream refuses new messages instead of dropping the oldest. Only where the stream is
    the record of something and small; elsewhere it would stop the flow on messages that everybody has read.
    max_age_s 0 = no limit.
    """

    name: str
    subjects: tuple[str, ...]
    description: str
    max_bytes: int
    max_age_s: float
    keeps_old: bool = False
    deny_purge: bool = False


STREAMS: Final[tuple[StreamSpec, ...]] = (
    StreamSpec("BARS", ("bars.>",), "closed bars; can be replayed from the lake", 1024 * _MIB, 7 * _DAY_S),
    StreamSpec("FEATURES", ("features.>",), "feature matrices; a pure function of the bars", 1024 * _MIB, 7 * _DAY_S),
    StreamSpec("SIGNALS", ("signals.>",), "signals of each horizon", 512 * _MIB, 7 * _DAY_S),
    StreamSpec("TARGETS", ("targets.>",), "target positions", 512 * _MIB, 7 * _DAY_S),
    # One stream for both, so that an order always stands before its fill.
    StreamSpec(
        "EXECUTION",
        ("orders.>", "fills.>"),
        "orders and fills; the truth is the journal in PostgreSQL",
        512 * _MIB,
        30 * _DAY_S,
        deny_purge=True,
    ),
    StreamSpec(
        "MODELS",
        ("models.>",),
        "registry decisions; the truth is PostgreSQL",
        64 * _MIB,
        max_age_s=0.0,
        keeps_old=True,
        deny_purge=True,
    ),
    # A job says about five things of half a kilobyte: 100,000 jobs. A waiting job dropped here would still be found by
    # the sweeper, in PostgreSQL.
    StreamSpec("IMAGEJOBS", ("imagejob.>",), "image jobs; the truth is PostgreSQL", 256 * _MIB, 7 * _DAY_S),
    # Half a million entries of 1 KB for those who follow the books; whoever needs older ones asks svc_billing.
    StreamSpec(
        "LEDGER",
        ("ledger.>",),
        "entries of the credit ledger; the truth is PostgreSQL",
        512 * _MIB,
        30 * _DAY_S,
        deny_purge=True,
    ),
    # Booked within seconds; 30 days are for a svc_billing that is away.
    StreamSpec("USAGE", ("usage.>",), "what jobs and calls took; booked by svc_billing", 64 * _MIB, 30 * _DAY_S),
    StreamSpec(
        "DEADLETTER",
        ("deadletter.>",),
        "messages that nobody could use",
        256 * _MIB,
        30 * _DAY_S,
        keeps_old=True,
    ),
)

_STREAM_OF_TOKEN: Final = {subject.split(".")[0]: spec.name for spec in STREAMS for subject in spec.subjects}


def stream_of(subject: str) -> str:
    """
    Return the name of the stream that stores a subject (wildcards after the first token allowed).

    Raises:
        ValueError: if no stream does.
    """
    stream = _STREAM_OF_TOKEN.get(subject.split(".", 1)[0])
    if stream is None:
        raise ValueError(f"expected a subject below one of {sorted(_STREAM_OF_TOKEN)}, received {subject!r}")
    return stream


def subject_matches(pattern: str, subject: str) -> bool:
    """Return whether a subject falls under a pattern with the wildcards `*` (one token) and `>` (the rest)."""
    wanted, found = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(found) > index
        if index >= len(found) or part not in ("*", found[index]):
            return False
    return len(wanted) == len(found)


def stream_config(spec: StreamSpec) -> StreamConfig:
    """Return the full configuration of one stream; every option that matters is written out."""
    return StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        description=spec.description,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW if spec.keeps_old else DiscardPolicy.OLD,
        max_bytes=spec.max_bytes,
        max_age=spec.max_age_s,
        max_msgs=-1,
        max_msgs_per_subject=-1,
        max_msg_size=MESSAGE_BYTES_MAX,
        max_consumers=-1,
        num_replicas=1,
        duplicate_window=DUPLICATE_WINDOW_S,
        deny_delete=True,
        deny_purge=spec.deny_purge,
        no_ack=False,
    )


async def apply_streams(js: JetStreamContext) -> None:
    """
    Bring the server's streams to the definitions above. Safe to repeat, and by several services at once.

    Raises:
        nats.js.errors.APIError: if the server refuses, for example for lack of disk or a change it cannot make.
    """
    for spec in STREAMS:
        config = stream_config(spec)
        try:
            await js.add_stream(config)
        except BadRequestError as error:
            if error.err_code != _ALREADY_EXISTS_OTHERWISE:
                raise
            await js.update_stream(config)
            logs.get().info("stream.updated", stream=spec.name)
