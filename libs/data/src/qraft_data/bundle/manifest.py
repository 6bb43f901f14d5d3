"""What a bundle says of itself: `manifest.json`. Nothing in it comes from a clock or a machine."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import parse_instant
from qraft_data.audit.expectation import FULL_SINCE
from qraft_data.audit.findings import Audit, Verdict
from qraft_data.times import instant_of, micros
from qraft_store.tables.rules import LAST_MICROS
from qraft_store.tables.schema import check_market

FORMAT: Final = "data-bundle/1"
# A manifest names a part in about 400 bytes; ten years of every kind on 100 markets are 50,000 parts.
MANIFEST_BYTES_MAX: Final = 256 << 20
# What one part may hold, decoded: the stores take no more rows a call, and a reader has it in memory some times.
PART_ROWS_MAX: Final = 10_000_000
PART_BYTES_MAX: Final = 512 << 20
# What Python's datetime can name, a second within; and nothing that a store takes is known later.
_TIMES_US: Final = (micros(datetime.min.replace(tzinfo=UTC)) + 1_000_000, LAST_MICROS)
# An audit counts the steps of a grid: 60 years of a minute are 32 million. Its window ends with the newest bar that
# decides, of which `--until` or `--as-of` may have left the last ones out.
_WINDOW_MAX: Final = timedelta(days=60 * 366)
_BEHIND_MAX: Final = timedelta(days=366)
_JSON: Final = msgspec.json.Encoder(order="deterministic")


class Source(msgspec.Struct, frozen=True, order=True):
    """One table, or one series of bars (kind `bars`, with an interval), of a lake."""

    kind: str
    interval: str
    market: str

    @property
    def name(self) -> str:
        """Return its name, `bars/<interval>/<market>` or `tables/<kind>/<market>`."""
        return f"bars/{self.interval}/{self.market}" if self.kind == "bars" else f"tables/{self.kind}/{self.market}"

    def is_known(self) -> bool:
        """Return whether this release has such a kind and interval, and the market's name stays inside a lake."""
        try:
            check_market(self.market)
        except ValueError:
            return False
        return self.interval in INTERVAL_SECONDS if self.kind == "bars" else self.kind in KINDS and not self.interval


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which rows: of these kinds and markets (none named = all) with start < event_at <= until and known_at <= as_of.

    Instants as text, None = without a limit.
    """

    kinds: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    start: str | None = None
    until: str | None = None
    as_of: str | None = None

    def takes(self, source: Source) -> bool:
        """Return whether it takes a source."""
        return (not self.kinds or source.kind in self.kinds) and (not self.markets or source.market in self.markets)


class AuditPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The audit of a bundle: as `qraft data audit` is asked, and the window (start, end] that came of it."""

    mode: str
    market: str
    interval: str
    line_market: str
    state_market: str
    start: str
    end: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """
    One Parquet file: rows of one source, every revision. Instants in microseconds since 1970, inclusive.

    sha256: of the bytes; content: of the rows, whatever wrote them.
    """

    name: str
    source: Source
    n_rows: int
    n_bytes: int
    sha256: str
    content: str
    first_us: int
    last_us: int
    known_last_us: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """
    The record of one bundle.

    as_of_us: no row was known later. is_green: the audit found everything ready; otherwise `why_not` says what it did
    not. versions: of every source in the lake that it was made from. parts: in the order of the archive.
    """

    format: str
    selection: Selection
    as_of_us: int
    is_green: bool
    why_not: tuple[str, ...]
    plan: AuditPlan
    audit: Audit
    versions: dict[str, str]
    n_rows: int
    n_bytes: int
    parts: tuple[Part, ...]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of manifest.json; equal manifests give equal bytes."""
    return msgspec.json.format(_JSON.encode(manifest), indent=1) + b"\n"


def bundle_id_of(data: bytes) -> str:
    """Return the name of a bundle: the SHA-256 of its manifest, which names the SHA-256 of everything else."""
    return hashlib.sha256(data).hexdigest()


def identity_of(selection: Selection, versions: dict[str, str]) -> str:
    """Return what an interrupted bundle must share with the one that goes on with it."""
    return hashlib.sha256(_JSON.encode((FORMAT, selection, versions))).hexdigest()


def decode_manifest(data: bytes) -> Manifest:
    """
    Return the manifest in the bytes.

    Raises:
        Malformed: if it is of another format, or says what cannot be.
    """
    try:
        said = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        format_ = msgspec.json.decode(said.get("format", b"null"), type=str | None)
        if format_ != FORMAT:
            raise Malformed(
                "unknown_bundle_format",
                f"expected a bundle of the format {FORMAT}, received {format_}: read it with the release that made it, "
                "or make it again with this one",
            )
        manifest = msgspec.json.decode(data, type=Manifest)
        selection = manifest.selection
        for instant in (manifest.plan.start, manifest.plan.end, selection.start, selection.until, selection.as_of):
            _ = instant and parse_instant(instant)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise damaged(f"its manifest cannot be read: {error}") from error
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """Refuse a manifest that contradicts itself, before anything that it names is looked at."""
    low, high = _TIMES_US
    asked = manifest.selection.as_of
    if not low < manifest.as_of_us < high or (asked and micros(parse_instant(asked)) != manifest.as_of_us):
        raise damaged(f"its as_of is {manifest.as_of_us}, its selection says {asked}")
    last: dict[Source, int] = {}
    counts: dict[Source, int] = {}
    for part in manifest.parts:
        if not part.source.is_known():
            raise Malformed(
                "unknown_bundle_kind",
                f"expected kinds, intervals and markets of this release, received {part.source}: it was made by a "
                "newer one",
            )
        n = counts.get(part.source, 0)
        if part.name != part_name(part.source, n):
            raise damaged(f"expected the part {part_name(part.source, n)}, its manifest names {part.name!r}")
        if not 0 < part.n_rows <= PART_ROWS_MAX or not 0 < part.n_bytes <= PART_BYTES_MAX:
            raise damaged(f"{part.name} says {part.n_rows} rows in {part.n_bytes} bytes")
        if not low < part.first_us <= part.last_us < high or part.first_us <= last.get(part.source, part.first_us - 1):
            raise damaged(f"{part.name} does not come after the part before it")
        if part.known_last_us > manifest.as_of_us:
            raise damaged(f"{part.name} holds what was known after the bundle's as_of")
        last[part.source], counts[part.source] = part.last_us, n + 1
    n_rows, n_bytes = (sum(getattr(part, name) for part in manifest.parts) for name in ("n_rows", "n_bytes"))
    if (n_rows, n_bytes) != (manifest.n_rows, manifest.n_bytes):
        raise damaged(f"its parts hold {n_rows} rows in {n_bytes} bytes, the manifest says {manifest.n_rows} and "
                      f"{manifest.n_bytes}")  # fmt: skip
    if missing := sorted({source.name for source in counts} - set(manifest.versions)):
        raise damaged(f"its manifest has no version of {missing}")
    _check_plan(manifest)
    _check_verdict(manifest)


def _check_plan(manifest: Manifest) -> None:
    """Refuse an audit of other times than the parts can be of: it runs again behind the import."""
    plan = manifest.plan
    if not manifest.parts:
        raise damaged("it holds no part")
    first, last = min(it.first_us for it in manifest.parts), max(it.last_us for it in manifest.parts)
    start, end = parse_instant(plan.start), parse_instant(plan.end)
    is_within = min(FULL_SINCE, instant_of(first)) <= start < end <= instant_of(last) + _BEHIND_MAX
    if plan.mode not in ("production", "full") or plan.interval not in INTERVAL_SECONDS:
        raise damaged(f"its audit is of {plan.interval} in the mode {plan.mode}")
    if not is_within or end - start > _WINDOW_MAX:
        raise damaged(f"its audit is of {plan.interval} from {plan.start} to {plan.end}, its rows are from "
                      f"{instant_of(first)} to {instant_of(last)}")  # fmt: skip


def _check_verdict(manifest: Manifest) -> None:
    """Refuse a verdict that does not follow from what the manifest itself says."""
    plan, audit = manifest.plan, manifest.audit
    if (audit.mode, audit.market, audit.start, audit.end) != (plan.mode, plan.market, plan.start, plan.end):
        raise damaged(f"it holds the audit of {audit.mode} {audit.market} from {audit.start} to {audit.end}, its plan "
                      "is another one")  # fmt: skip
    n_ready = sum(it.verdict is Verdict.READY for it in audit.required)
    counted = (n_ready, len(audit.required), bool(audit.required) and n_ready == len(audit.required))
    if counted != (audit.n_ready, audit.n_required, audit.ready):
        raise damaged(f"its audit says ready {audit.ready}, {audit.n_ready} of {audit.n_required}; its series say "
                      f"{counted[2]}, {counted[0]} of {counted[1]}")  # fmt: skip
    if manifest.is_green != (not manifest.why_not) or (manifest.is_green and not audit.ready):
        raise damaged(f"it says green {manifest.is_green}, its audit ready {audit.ready} and {len(manifest.why_not)} "
                      "reasons why not")  # fmt: skip


def part_name(source: Source, n: int) -> str:
    """Return the name of a source's n-th part."""
    return f"{source.name}/{n:06d}.parquet"


def damaged(why: str) -> Malformed:
    """Return the error of a bundle that is not as it was made."""
    return Malformed(
        "damaged_bundle", f"expected a whole bundle: {why}; nothing of it was taken, copy or make it again"
    )
