"""A bundle carries all that a lake knows and when it was known, or nothing."""

from __future__ import annotations

import hashlib
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from tests.libs.data.bundle.bundle_kit import (
    DAY,
    END,
    HOUR,
    PERP,
    SOURCES,
    STEP,
    T0,
    asked,
    bar,
    everything,
    fill,
    lake_stores,
    made,
    memory_stores,
    put,
    row,
    take,
    versions,
)

from qraft_contracts.outcomes import Malformed, Refused, Transient
from qraft_contracts.times import format_instant
from qraft_data.bundle.archive import write_member
from qraft_data.bundle.create import make_bundle
from qraft_data.bundle.judged import audit_again
from qraft_data.bundle.load import open_bundle
from qraft_data.bundle.sources import Stores


@pytest.fixture(scope="module")
def source() -> Stores:
    return fill(memory_stores())


@pytest.fixture(scope="module")
def bundle(source: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "all.tar"
    made(source, path)
    return path


def test_bundle_of_a_green_lake_says_what_is_in_it(source: Stores, bundle: Path) -> None:
    opened = open_bundle(bundle, expected_id=None)
    opened.archive.close()
    manifest = opened.manifest

    assert manifest.is_green and manifest.audit.ready and manifest.why_not == ()
    assert {part.source for part in manifest.parts} == set(SOURCES)
    assert manifest.versions == versions(source)
    assert manifest.as_of_us == max(part.known_last_us for part in manifest.parts)
    assert [part.name for part in manifest.parts if part.source.interval == "5m"] == [
        f"bars/5m/{PERP}/{n:06d}.parquet"
        for n in range(3)  # April, May, June
    ]


def test_import_into_an_empty_lake_gives_the_same_versions_and_the_same_reads(
    source: Stores, bundle: Path, tmp_path: Path
) -> None:
    with lake_stores(tmp_path) as lake:
        done = take(lake, bundle)

        assert done.n_repeated == 0
        assert versions(lake) == versions(source)
        assert all(there == here for there, here in done.versions.values())
        for as_of in (T0, T0 + 11 * STEP, T0 + DAY, END, END + 2 * HOUR, END + 2 * DAY):
            there, here = everything(source, as_of), everything(lake, as_of)
            assert all(there[name] is here[name] is None or there[name].equals(here[name]) for name in there), as_of


def test_bundle_of_a_lake_and_of_its_twin_and_of_their_imports_is_the_same_file(
    source: Stores, bundle: Path, tmp_path: Path
) -> None:
    twin = memory_stores()
    with lake_stores(tmp_path / "lake") as lake:
        take(lake, bundle)
        made(lake, tmp_path / "again.tar")
    take(twin, tmp_path / "again.tar")
    made(twin, tmp_path / "third.tar")

    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (bundle, *tmp_path.glob("*.tar"))}
    assert len(hashes) == 1


def test_import_again_adds_nothing_and_a_dry_run_writes_nothing(bundle: Path, tmp_path: Path) -> None:
    with lake_stores(tmp_path) as lake:
        n_rows = take(lake, bundle, is_dry=True).n_new
        assert not any(tmp_path.rglob("*.parquet")) and not any(tmp_path.rglob("*.arrows"))

        assert take(lake, bundle).n_new == n_rows
        before = versions(lake)
        again = take(lake, bundle)

        assert (again.n_new, again.n_repeated) == (0, n_rows)
        assert versions(lake) == before


def test_import_that_stopped_anywhere_is_finished_by_the_next(source: Stores, bundle: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    for n in (0, 4, 12):
        stored = 0

        def stop_after(what: str, _done: int, _total: int, n: int = n) -> None:
            nonlocal stored
            stored += what.startswith("stored")
            if stored > n:
                raise Stop

        root = tmp_path / str(n)
        with lake_stores(root) as lake, pytest.raises(Stop):
            take(lake, bundle, on_step=stop_after)
        with lake_stores(root) as lake:
            take(lake, bundle)

            assert versions(lake) == versions(source)


def test_audit_where_it_arrived_says_what_the_bundle_says(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle, expected_id=None)
    opened.archive.close()
    with lake_stores(tmp_path) as lake:
        put(lake, "funding", [row("funding", T0, symbol="OTHERUSDT", funding_rate=0.0, period_hours=8.0)])
        take(lake, bundle)

        assert audit_again(lake, opened.manifest, on_series=lambda _done, _total: None) == ()
    with lake_stores(tmp_path / "other") as other:
        assert audit_again(other, opened.manifest, on_series=lambda _done, _total: None)


def test_bundle_with_gaps_is_made_only_when_they_are_allowed_and_says_so(source: Stores, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"audit_not_green.*--allow-gaps"):
        made(source, tmp_path / "long.tar", days=420)
    assert not list(tmp_path.iterdir())

    done = made(source, tmp_path / "long.tar", days=420, allows_gaps=True)

    assert not done.manifest.is_green
    assert any("bars 5m BTCUSDT" in reason for reason in done.manifest.why_not)


def test_part_of_a_lake_is_not_green_for_want_of_the_rest(source: Stores, tmp_path: Path) -> None:
    for n, selection in enumerate(({"kinds": ("bars", "funding")}, {"start": format_instant(T0 + DAY)})):
        with pytest.raises(Refused, match="audit_not_green"):
            made(source, tmp_path / f"{n}.tar", **selection)


def test_selection_takes_its_kinds_markets_range_and_what_was_known(source: Stores, tmp_path: Path) -> None:
    done = made(
        source, tmp_path / "part.tar", allows_gaps=True, kinds=("funding", "bars"), markets=(PERP,),
        start=format_instant(T0 + HOUR), until=format_instant(T0 + 2 * DAY), as_of=format_instant(END),
    )  # fmt: skip
    there = memory_stores()
    take(there, tmp_path / "part.tar")

    assert {part.source.kind for part in done.manifest.parts} == {"funding", "bars"}
    assert there.tables.range("funding", market=PERP) == (T0 + 2 * HOUR, T0 + 2 * DAY)
    assert there.bars.range(market=PERP, interval="5m") == (T0 + HOUR + STEP, T0 + 2 * DAY)
    known = [known for rows in there.bars.rows(market=PERP, interval="5m") for known in rows["known_at"].to_pylist()]
    assert max(known) <= END
    rates = there.tables.read("funding", market=PERP, symbols=None, start=T0, end=END, as_of=END + DAY)["funding_rate"]
    assert 2e-4 not in rates.to_pylist()  # the correction came after END


@pytest.mark.parametrize("selection", [{"kinds": ("liquidations",)}, {"markets": ("nowhere",)}])
def test_selection_of_nothing_is_refused_by_name(source: Stores, tmp_path: Path, selection: dict[str, tuple]) -> None:
    with pytest.raises(Refused, match=r"liquidations|nowhere"):
        made(source, tmp_path / "none.tar", allows_gaps=True, **selection)


def test_newer_bundle_of_the_same_lake_adds_what_came_since(source: Stores, tmp_path: Path) -> None:
    with lake_stores(tmp_path / "lake") as lake:
        now = format_instant(T0 + 2 * DAY)
        made(source, tmp_path / "old.tar", allows_gaps=True, until=now, as_of=now)
        made(source, tmp_path / "new.tar")
        first = take(lake, tmp_path / "old.tar")
        second = take(lake, tmp_path / "new.tar")

        assert first.n_new and second.n_repeated == first.n_new
        assert versions(lake) == versions(source)


def test_later_revision_that_is_stored_already_is_kept(source: Stores, tmp_path: Path) -> None:
    made(source, tmp_path / "old.tar", allows_gaps=True, as_of=format_instant(T0 + 2 * DAY))
    with lake_stores(tmp_path / "lake") as lake:
        made(source, tmp_path / "new.tar")
        take(lake, tmp_path / "new.tar")

        assert take(lake, tmp_path / "old.tar").n_new == 0
        assert versions(lake) == versions(source)


@pytest.mark.parametrize("name", ["funding_rate", "known_at", "origin", "source"])
def test_stored_row_that_differs_in_anything_is_named_and_nothing_is_written(
    bundle: Path, tmp_path: Path, name: str
) -> None:
    value = {"funding_rate": 0.3, "known_at": T0 + 3 * HOUR, "origin": "real", "source": "another"}[name]
    other = row("funding", T0 + 2 * HOUR, funding_rate=1e-4, period_hours=1.0) | {name: value}
    with lake_stores(tmp_path) as lake:
        put(lake, "funding", [other])
        before = versions(lake)

        with pytest.raises(Refused, match=f"BTCUSDT 2025-05-30T02:00:00Z revision 0: {name}.*nothing was written"):
            take(lake, bundle)
        assert versions(lake) == before


def test_bars_that_differ_or_would_go_back_are_refused_and_nothing_is_written(bundle: Path, tmp_path: Path) -> None:
    for n, (batch, said) in enumerate([
        (bar(T0 + STEP, 77.0), "open 100.0 in the bundle, 77.0 stored"),
        (bar(END + DAY, 77.0), "older ones.*the first BTCUSDT 2025-05-30T00:05:00Z revision 0"),
    ]):  # fmt: skip
        with lake_stores(tmp_path / str(n)) as lake:
            lake.bars.append([batch])
            before = versions(lake)

            with pytest.raises(Refused, match=said):
                take(lake, bundle)
            assert versions(lake) == before


def test_revision_known_before_what_it_replaces_here_is_refused(bundle: Path, tmp_path: Path) -> None:
    with lake_stores(tmp_path) as lake:
        late = row("funding", T0 + 6 * HOUR, funding_rate=5e-4, period_hours=1.0, revision=7, known_at=T0 + 7 * HOUR)
        put(lake, "funding", [late])

        with pytest.raises(Refused, match="known_before_the_revision_it_replaces"):
            take(lake, bundle)


def test_another_bundle_than_the_one_expected_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="another_bundle"):
        take(memory_stores(), bundle, expected_id="0" * 64)


def test_file_that_is_there_is_not_replaced(source: Stores, bundle: Path) -> None:
    with pytest.raises(Refused, match="bundle_exists"):
        made(source, bundle)


def test_tools_of_every_machine_can_list_and_check_it(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "xf", bundle, "-C", tmp_path], check=True, timeout=60)
    subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=tmp_path, check=True, timeout=60)

    assert len(list(tmp_path.rglob("*.parquet"))) > len(SOURCES)


def test_lake_that_changes_while_it_is_read_makes_no_bundle(tmp_path: Path) -> None:

    moving = fill(memory_stores())

    def move(what: str, _done: int, _total: int) -> None:
        if what == "tables/posts/twitter":
            put(moving, "funding", [row("funding", END + HOUR, funding_rate=0.0, period_hours=1.0)])

    with pytest.raises(Transient, match=f"sources_moving.*tables/funding/{PERP}"):
        make_bundle(moving, asked(), tmp_path / "moving.tar", on_step=move)
    assert not (tmp_path / "moving.tar").exists()
    assert made(moving, tmp_path / "moving.tar").n_resumed == 0


def test_parts_are_cut_by_what_their_rows_are_decoded_and_a_reader_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qraft_data.bundle.sources._PART_BYTES", 10_000)
    stores = memory_stores()
    rows = [row("posts", T0 + (i // 3) * HOUR, row_id=str(i), text="x" * (1 + 100 * (i % 50))) for i in range(150)]
    put(stores, "posts", rows, market="twitter")
    whole = made(stores, tmp_path / "whole.tar", allows_gaps=True)

    parts = [part for part in whole.manifest.parts if part.source.kind == "posts"]
    assert len(parts) > 20 and sum(part.n_rows for part in parts) == 150
    assert all(left.last_us < right.first_us for left, right in pairwise(parts))
    take(there := memory_stores(), tmp_path / "whole.tar")
    assert there.tables.version("posts", market="twitter") == stores.tables.version("posts", market="twitter")

    n = 0

    def stop(data: object) -> None:
        nonlocal n
        n += 1
        if n > 7:
            raise OSError("disk full")

    monkeypatch.setattr("qraft_data.bundle.create.write_member", lambda *words: (stop(words), write_member(*words)))
    with pytest.raises(Transient, match="disk full"):
        made(stores, tmp_path / "again.tar", allows_gaps=True)
    monkeypatch.undo()
    monkeypatch.setattr("qraft_data.bundle.sources._PART_BYTES", 10_000)
    assert made(stores, tmp_path / "again.tar", allows_gaps=True).n_resumed == 7
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "whole.tar").read_bytes()


def test_rows_of_one_instant_that_no_reader_would_take_are_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qraft_data.bundle.rows.PART_BYTES_MAX", 10_000)
    stores = memory_stores()
    put(stores, "posts", [row("posts", T0, row_id=str(i), text="x" * 2_000) for i in range(6)], market="twitter")

    with pytest.raises(Malformed, match=r"tables/posts/twitter/000000\.parquet have .* bytes, more than 10000"):
        made(stores, tmp_path / "large.tar", allows_gaps=True)
    assert not (tmp_path / "large.tar").exists()


def test_audit_from_before_everything_is_refused_before_rows_are_read(source: Stores, tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"bad_window.*2018-01-01.*fewer days"):
        made(source, tmp_path / "long.tar", allows_gaps=True, days=9_000)
