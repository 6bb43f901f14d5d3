"""A bundle that is not as it was made is refused whole, wherever it was touched."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.libs.data.bundle.bundle_kit import DAY, HOUR, T0, bar, made, memory_stores, put, row, take

from qraft_contracts.outcomes import Malformed, Refused
from qraft_data.bundle.archive import write_end, write_member
from qraft_data.bundle.load import open_bundle
from qraft_data.bundle.manifest import Manifest, Part, encode_manifest
from qraft_data.bundle.rows import content_of, encode_rows
from qraft_data.bundle.sources import time_column
from qraft_data.times import micros_column
from qraft_store.bars.rows import ROW_SCHEMA
from qraft_store.tables.schema import table_schema

Change = Callable[[dict[str, Any]], None]
HASH = "0" * 64


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of 25 kB: three parts, two kinds."""
    stores = memory_stores()
    stores.bars.append([bar(T0 + i * HOUR, 100.0, interval="1h") for i in range(1, 60)])
    put(stores, "funding", [row("funding", T0 + i * HOUR, funding_rate=1e-4, period_hours=1.0) for i in range(1, 40)])
    path = tmp_path_factory.mktemp("bundle") / "small.tar"
    made(stores, path, allows_gaps=True)
    return path


def refused(path: Path, said: str = ".") -> str:
    """Import a bundle, which must be refused and leave nothing; return what was said."""
    stores = memory_stores()
    with pytest.raises(Malformed, match=said) as error:
        take(stores, path)
    assert stores.tables.markets("funding") == stores.bars.markets("1h") == ()
    return str(error.value)


def test_every_byte_is_checked(whole: Path, tmp_path: Path) -> None:
    data, path = bytearray(whole.read_bytes()), tmp_path / "flipped.tar"
    assert len(data) > 20_000
    for at in [*range(0, len(data), 61), *range(len(data) - 1024, len(data), 101), 100, 124, 148, 257, 500]:
        data[at] ^= 0x21
        path.write_bytes(data)
        refused(path)
        data[at] ^= 0x21
    path.write_bytes(data)

    assert take(memory_stores(), path).n_new == 59 + 39


def test_file_that_is_cut_off_or_goes_on_is_refused(whole: Path, tmp_path: Path) -> None:
    data, path = whole.read_bytes(), tmp_path / "cut.tar"
    for n in (0, 1, 511, 512, 600, len(data) // 2, len(data) - 2048, len(data) - 1024, len(data) - 512, len(data) - 1):
        path.write_bytes(data[:n])
        refused(path, "cut off|no member|no bundle")
    for more in (b"\0", bytes(512), b"x", data):
        path.write_bytes(data + more)
        refused(path, "follows its end")


def members(path: Path) -> list[tuple[str, bytes]]:
    """Return the members as any tar reader sees them."""
    with tarfile.open(path) as archive:
        files = [(info.name, archive.extractfile(info)) for info in archive.getmembers()]
        return [(name, file.read()) for name, file in files if file is not None]


def rewrite(path: Path, parts: list[tuple[str, bytes]], manifest: bytes) -> None:
    """Write an archive that is consistent in itself."""
    with path.open("wb") as file:
        for name, data in parts:
            write_member(file, name, data)
        write_end(file, manifest)


@pytest.mark.parametrize("name", ["tables/funding/x/000009.parquet", "../../evil", "/etc/passwd", "bars/1h/../x"])
def test_additional_member_is_refused_whatever_its_name(whole: Path, tmp_path: Path, name: str) -> None:
    *parts, (_, manifest), _ = members(whole)
    for place in (0, len(parts)):
        rewrite(tmp_path / "more.tar", [*parts[:place], (name, b"x"), *parts[place:]], manifest)
        assert name in refused(tmp_path / "more.tar", "its members are not those")
    assert not (tmp_path.parent / "evil").exists()


def test_missing_doubled_and_exchanged_members_are_refused(whole: Path, tmp_path: Path) -> None:
    *parts, (_, manifest), _ = members(whole)
    assert len(parts) == 3  # May and June of bars, May of funding
    for wrong in (parts[1:], parts[:-1], [parts[1], parts[0], *parts[2:]], [*parts, parts[0]], []):
        rewrite(tmp_path / "wrong.tar", wrong, manifest)
        refused(tmp_path / "wrong.tar", "its members are not those")


def test_link_in_the_place_of_a_part_is_refused(whole: Path, tmp_path: Path) -> None:
    info = tarfile.TarInfo("bars/1h/binance.perp/000000.parquet")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    (tmp_path / "link.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + whole.read_bytes())

    refused(tmp_path / "link.tar", "not as it was written")


def test_part_with_another_name_that_leaves_the_lake_is_refused(whole: Path, tmp_path: Path) -> None:
    *parts, (_, text), _ = members(whole)
    said = json.loads(text)
    said["parts"][0]["source"]["market"] = "../../x"
    rewrite(tmp_path / "away.tar", parts, json.dumps(said).encode())
    refused(tmp_path / "away.tar", "unknown_bundle_kind")

    said = json.loads(text)
    said["parts"][0]["name"] = "../../x"
    rewrite(tmp_path / "away.tar", [("../../x", parts[0][1]), *parts[1:]], json.dumps(said).encode())
    refused(tmp_path / "away.tar", "expected the part bars/1h/binance.perp/000000.parquet")


def _window(said: dict[str, Any], **times: str) -> None:
    """Change the window of the audit, in every place that names it."""
    said["plan"] |= times
    said["audit"] |= times


def _set(*path: str | int, to: Any) -> Change:
    def change(said: dict[str, Any]) -> None:
        place: Any = said
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("format", to="data-bundle/2"), "unknown_bundle_format.*data-bundle/2"),
        (_set("format", to=None), "unknown_bundle_format"),
        (_set("parts", 0, "source", "interval", to="7m"), "unknown_bundle_kind"),
        (_set("parts", 2, "source", "kind", to="tarot"), "unknown_bundle_kind"),
        (_set("parts", 0, "n_rows", to=10**9), "says 1000000000 rows"),
        (_set("parts", 0, "n_bytes", to=10**12), "says .* rows in 1000000000000 bytes"),
        (_set("parts", 0, "sha256", to=HASH), "other bytes than the manifest says"),
        (_set("parts", 0, "content", to=HASH), "other rows than the manifest says"),
        (_set("parts", 0, "first_us", to=0), "the manifest says"),
        (_set("parts", 1, "first_us", to=0), "does not come after"),
        (_set("as_of_us", to=1), "known after the bundle's as_of"),
        (_set("n_rows", to=7), "the manifest says 7"),
        (_set("versions", to={}), "no version of"),
        (_set("plan", "start", to="yesterday"), "cannot be read"),
        (_set("plan", "interval", to="7m"), "its audit is of 7m"),
        (_set("plan", "start", to="2030-01-01T00:00:00Z"), "its audit is of"),
        (_set("as_of_us", to=1 << 62), "its as_of is"),
        (_set("parts", 0, "first_us", to=-(1 << 62)), "does not come after"),
        (lambda said: said.pop("audit"), "cannot be read"),
        (lambda said: _window(said, end="9999-12-31T23:59:59.999999Z"), "its audit is of 5m from .* to 9999"),
        (lambda said: _window(said, end="9999-12-31T23:59:59-23:00"), "cannot be read"),
        (lambda said: _window(said, end="2027-06-01T00:00:00Z"), "its audit is of 5m"),
        (lambda said: _window(said, start="0001-01-02T00:00:00Z"), "its audit is of 5m from 0001"),
        (lambda said: _window(said, start="2017-12-31T00:00:00Z"), "its audit is of 5m from 2017"),
        (lambda said: (_set("plan", "mode", to="tarot")(said), _set("audit", "mode", to="tarot")(said)), "mode tarot"),
        (_set("audit", "mode", to="full"), "its plan is another one"),
        (_set("audit", "end", to="2025-01-01T00:00:00Z"), "its plan is another one"),
        (_set("is_green", to=True), "says green True"),
        (lambda said: (_set("is_green", to=True)(said), _set("why_not", to=[])(said)), "says green True"),
        (_set("why_not", to=[]), "says green False"),
        (_set("audit", "ready", to=True), "its audit says ready True"),
        (_set("audit", "n_ready", to=99), "its audit says"),
        (_set("selection", "as_of", to="2025-06-01T00:00:00Z"), "its selection says 2025"),
        (_set("selection", "as_of", to="soon"), "cannot be read"),
        (_set("as_of_us", to=8_000_000_000_000_000), "its as_of is"),
    ],
)
def test_manifest_that_contradicts_itself_or_its_parts_is_refused(
    whole: Path, tmp_path: Path, change: Change, said: str
) -> None:
    *parts, (_, text), _ = members(whole)
    manifest = json.loads(text)
    change(manifest)
    rewrite(tmp_path / "changed.tar", parts, json.dumps(manifest).encode())

    refused(tmp_path / "changed.tar", said)


def forge(whole: Path, path: Path, kind: str, rows: pa.Table) -> None:
    """Put other rows into the first part of a kind, in a bundle that is consistent in every hash and count."""
    opened = open_bundle(whole, expected_id=None)
    opened.archive.close()
    *parts, _, _ = members(whole)
    manifest = opened.manifest
    place = next(i for i, part in enumerate(manifest.parts) if part.source.kind == kind)
    old = manifest.parts[place]
    data, times = encode_rows(rows), micros_column(rows, time_column(old.source))
    new = Part(
        name=old.name, source=old.source, n_rows=rows.num_rows, n_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(), content=content_of(old.source, rows), first_us=int(times[0]),
        last_us=int(times[-1]), known_last_us=min(int(micros_column(rows, "known_at").max()), manifest.as_of_us),
    )  # fmt: skip
    said = [*manifest.parts[:place], new, *manifest.parts[place + 1 :]]
    fields = {name: getattr(manifest, name) for name in Manifest.__struct_fields__}
    fields |= {"parts": tuple(said), "n_rows": sum(it.n_rows for it in said), "n_bytes": sum(it.n_bytes for it in said)}
    parts[place] = (old.name, data)
    rewrite(path, parts, encode_manifest(Manifest(**fields)))


def put_bytes(whole: Path, path: Path, kind: str, data: bytes, n_rows: int) -> None:
    """Put other bytes in the place of the first part of a kind, in a bundle whose hashes and counts are right."""
    *parts, (_, text), _ = members(whole)
    said = json.loads(text)
    place = next(i for i, part in enumerate(said["parts"]) if part["source"]["kind"] == kind)
    old = said["parts"][place]
    said["n_bytes"] += len(data) - old["n_bytes"]
    said["n_rows"] += n_rows - old["n_rows"]
    old |= {"n_bytes": len(data), "n_rows": n_rows, "sha256": hashlib.sha256(data).hexdigest()}
    parts[place] = (parts[place][0], data)
    rewrite(path, parts, json.dumps(said).encode())


def parquet(rows: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, **({"compression": "zstd", "store_schema": False} | options))
    return sink.getvalue()


def test_few_bytes_that_become_gigabytes_are_refused_before_they_do(whole: Path, tmp_path: Path) -> None:
    n = 4_000
    rows = pa.concat_tables([funding({})] * n).combine_chunks()
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array(["x" * (1 << 20)]))
    data = parquet(rows.set_column(rows.schema.get_field_index("source"), "source", text))
    assert len(data) < 20_000
    put_bytes(whole, tmp_path / "bomb.tar", "funding", data, n)
    before = pa.total_allocated_bytes()

    refused(tmp_path / "bomb.tar", "the rows of .* have 4194.* bytes")

    assert pa.total_allocated_bytes() - before < 64 << 20


def test_run_of_values_is_counted_by_its_pages_whatever_the_footer_says(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qraft_data.bundle.rows._DECODING_BYTES_MAX", 10_000_000)
    n = 200_000
    rows = funding({}).take(np.zeros(n, dtype=np.int64)).combine_chunks()
    data = parquet(rows, use_dictionary=True)
    assert len(data) < 40_000
    put_bytes(whole, tmp_path / "bomb.tar", "funding", data, n)
    refused(tmp_path / "bomb.tar", "needs .* bytes to be decoded")

    put_bytes(whole, tmp_path / "bomb.tar", "funding", data, n - 1)
    refused(tmp_path / "bomb.tar", f"holds {n} rows")


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_encoding_that_no_bundle_has_is_refused(whole: Path, tmp_path: Path, encoding: str) -> None:
    data = parquet(funding({}), use_dictionary=False, column_encoding={"source": encoding})
    put_bytes(whole, tmp_path / "odd.tar", "funding", data, 1)

    refused(tmp_path / "odd.tar", "expected plain pages in source")


def funding(*rows: dict[str, Any]) -> pa.Table:
    plain = {"funding_rate": 1e-4, "period_hours": 1.0}
    return pa.Table.from_pylist([row("funding", T0 + HOUR) | plain | it for it in rows], table_schema("funding"))


def of_bars(*rows: dict[str, Any]) -> pa.Table:
    base = {"symbol": "A", "closed_at": T0 + HOUR, "known_at": T0 + HOUR, "revision": 0, "origin": "real"}
    values = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
    return pa.Table.from_pylist([base | values | it for it in rows], ROW_SCHEMA)


LATE = {"event_at": T0 + 2 * HOUR, "known_at": T0 + 2 * HOUR}
AGAIN = {"closed_at": T0 + 2 * HOUR, "known_at": T0 + 2 * HOUR}


@pytest.mark.parametrize(
    ("kind", "rows", "said"),
    [
        ("funding", funding({}, LATE | {"known_at": T0 + 9 * DAY}), "known until .*the manifest says"),
        ("funding", funding({"known_at": T0}), "known_before_event"),
        ("funding", funding({"funding_rate": 0.9}), "out_of_bounds: funding_rate"),
        ("funding", funding({"row_id": "7"}), "unexpected: row_id"),
        ("funding", funding({"origin": "guessed"}), "unknown: origin"),
        ("funding", funding({"symbol": "B"}, {"symbol": "A"}), "not in order"),
        ("funding", funding({}, {}), "named twice"),
        ("funding", funding({"known_at": T0 + 3 * HOUR}, {"revision": 1, "known_at": T0 + 2 * HOUR}),
         "known_before_the_revision_it_replaces"),
        ("bars", of_bars({"known_at": T0}), "was known before it"),
        ("bars", of_bars({}, AGAIN | {"known_at": T0 + 9 * DAY}), "known until .*the manifest says"),
        ("bars", of_bars({"closed_at": T0 + timedelta(seconds=1)}), "grid"),
        ("bars", of_bars({"origin": "guessed"}), "an origin out of"),
        ("bars", of_bars({"symbol": "B"}, {"symbol": "A"}), "not in order"),
        ("bars", of_bars({}, {"close": 2.0}), "names a row twice"),
        ("funding", funding({}).drop_columns(["source"]), "lacks the columns"),
        ("funding", funding({}).append_column("more", pa.array([1])), "unknown_bundle_kind.*more"),
        ("funding", funding({}).set_column(4, "revision", pa.array([0], pa.int64())), "has the types"),
    ],
)  # fmt: skip
def test_rows_that_no_store_would_give_are_refused_though_every_hash_is_right(
    whole: Path, tmp_path: Path, kind: str, rows: pa.Table, said: str
) -> None:
    forge(whole, tmp_path / "forged.tar", kind, rows)

    refused(tmp_path / "forged.tar", said)


def test_part_that_is_no_parquet_is_refused(whole: Path, tmp_path: Path) -> None:
    for data in (b"PAR1", io.BytesIO(encode_rows(funding({}))).read()[:-9]):
        forge(whole, tmp_path / "forged.tar", "funding", funding({}))
        raw = (tmp_path / "forged.tar").read_bytes()
        assert encode_rows(funding({})) in raw
        *parts, (_, text), _ = members(tmp_path / "forged.tar")
        said = json.loads(text)
        place = next(i for i, part in enumerate(said["parts"]) if part["source"]["kind"] == "funding")
        said["n_bytes"] += len(data) - said["parts"][place]["n_bytes"]
        said["parts"][place] |= {"n_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        parts[place] = (parts[place][0], data)
        rewrite(tmp_path / "forged.tar", parts, json.dumps(said).encode())

        refused(tmp_path / "forged.tar", "is no Parquet")


def test_forged_bundle_with_allowed_rows_is_found_by_its_id_only(whole: Path, tmp_path: Path) -> None:
    opened = open_bundle(whole, expected_id=None)
    opened.archive.close()
    forge(whole, tmp_path / "forged.tar", "funding", funding({"funding_rate": 0.4}))

    assert take(memory_stores(), tmp_path / "forged.tar").n_new
    with pytest.raises(Refused, match="another_bundle"):
        take(memory_stores(), tmp_path / "forged.tar", expected_id=opened.bundle_id)
