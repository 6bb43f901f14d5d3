"""Refused rows of living sources: small parts, each row once, bounded, and damage told by name."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from qraft_contracts.outcomes import Malformed
from svc_ingest.adapters import refused as refused_module
from svc_ingest.adapters.collected import LakeRecord, refused_counts
from svc_ingest.domain.shaping import Refused


def rows(*received: str) -> list[tuple[str, Refused]]:
    return [("BTCUSDT", Refused("funding", "x.perp", i, "unit", text)) for i, text in enumerate(received)]


def texts(lake: Path, name: str = "poll.x") -> list[str]:
    return sorted(row["received"] for row in pq.read_table(lake / "refused" / name).to_pylist())


def test_batch_is_added_without_a_byte_of_the_earlier_ones_being_touched(tmp_path: Path) -> None:
    record = LakeRecord(tmp_path)
    record.add_refused("poll.x", rows("a", "b"))
    (first,) = (tmp_path / "refused" / "poll.x").iterdir()
    before = first.stat()

    record.add_refused("poll.x", rows("c"))

    after = first.stat()
    assert (after.st_mtime_ns, after.st_ino, after.st_size) == (before.st_mtime_ns, before.st_ino, before.st_size)
    assert texts(tmp_path) == ["a", "b", "c"]


def test_row_is_kept_once_also_after_a_restart(tmp_path: Path) -> None:
    LakeRecord(tmp_path).add_refused("poll.x", rows("a", "b", "a"))
    LakeRecord(tmp_path).add_refused("poll.x", rows("b", "c"))

    assert texts(tmp_path) == ["a", "b", "c"]
    assert [(it.reason, it.n) for it in refused_counts(tmp_path)] == [("unit", 3)]


def test_parts_are_joined_and_rows_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_module, "PARTS_MAX", 4)
    monkeypatch.setattr(refused_module, "KEPT_MAX", 10)
    record = LakeRecord(tmp_path)

    for i in range(15):
        record.add_refused("poll.x", rows(f"{i:02d}"))

    assert texts(tmp_path) == [f"{i:02d}" for i in range(10)]
    assert len(list((tmp_path / "refused" / "poll.x").iterdir())) < 4


def test_rows_that_stand_twice_after_a_kill_are_counted_once(tmp_path: Path) -> None:
    LakeRecord(tmp_path).add_refused("poll.x", rows("a", "b"))
    folder = tmp_path / "refused" / "poll.x"
    (folder / "00000001.parquet").write_bytes((folder / "00000000.parquet").read_bytes())

    assert [it.n for it in refused_counts(tmp_path)] == [2]


@pytest.mark.parametrize("cut", [0, 3, -9])
def test_damaged_part_is_named_with_what_to_do(tmp_path: Path, cut: int) -> None:
    LakeRecord(tmp_path).add_refused("poll.x", rows("a"))
    (part,) = (tmp_path / "refused" / "poll.x").iterdir()
    part.write_bytes(part.read_bytes()[:cut])

    with pytest.raises(Malformed, match=rf"{part.name}.*move the file away"):
        LakeRecord(tmp_path).add_refused("poll.x", rows("b"))
    with pytest.raises(Malformed, match=part.name):
        refused_counts(tmp_path)
