"""A bundle or an import that is killed with -9 in the middle is finished by the next run, with the same bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.libs.data.bundle.bundle_kit import asked, fill, lake_stores, made, take, versions

from qraft_contracts.outcomes import Refused, Transient
from qraft_data.bundle.create import make_bundle
from qraft_data.bundle.sources import Stores

CHILD = """
import sys
from pathlib import Path
from tests.libs.data.bundle.bundle_kit import asked, lake_stores, take
from qraft_data.bundle.create import make_bundle

verb, path, lake = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
say = lambda what, done, total: print(what, flush=True)
with lake_stores(lake) as stores:
    if verb == "make":
        make_bundle(stores, asked(), path, on_step=say)
    else:
        take(stores, path, on_step=say)
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("lake")
    with lake_stores(root) as stores:
        fill(stores)
    yield root


@pytest.fixture(scope="module")
def bundle(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "all.tar"
    with lake_stores(lake) as stores:
        made(stores, path)
    return path


def killed_after(verb: str, path: Path, lake: Path, *, line: str) -> None:
    """Run a child and kill it with -9 when it has said a line that begins so."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, verb, str(path), str(lake)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for said in process.stdout:
        if said.startswith(line):
            break
    process.kill()
    assert process.wait(timeout=60) == -9


def test_killed_maker_is_gone_on_with_and_the_bytes_are_the_same(lake: Path, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.tar"
    killed_after("make", path, lake, line="tables/funding")
    assert not path.exists()
    with (tmp_path / ".all.tar.partial").open("ab") as file:
        file.write(b"half a part")  # where a kill amid a write would have left it
    with (tmp_path / ".all.tar.journal").open("ab") as file:
        file.write(b'{"part": {"na')

    with lake_stores(lake) as stores:
        done = made(stores, path)

    assert done.n_resumed >= 5
    assert path.read_bytes() == bundle.read_bytes()
    assert [it.name for it in tmp_path.iterdir()] == ["all.tar"]


@pytest.mark.parametrize("damage", ["data", "journal", "both gone"])
def test_half_made_file_that_was_damaged_is_not_trusted(lake: Path, bundle: Path, tmp_path: Path, damage: str) -> None:
    path, partial, journal = (tmp_path / name for name in ("all.tar", ".all.tar.partial", ".all.tar.journal"))
    with lake_stores(lake) as stores, pytest.raises(KeyboardInterrupt):
        made_until(stores, path, "tables/macro")
    if damage == "data":
        data = bytearray(partial.read_bytes())
        data[len(data) // 2] ^= 1
        partial.write_bytes(data)
    elif damage == "journal":
        journal.write_bytes(journal.read_bytes()[40:])
    else:
        partial.unlink()

    with lake_stores(lake) as stores:
        made(stores, path)

    assert path.read_bytes() == bundle.read_bytes()


def made_until(stores: Stores, path: Path, line: str, **selection: tuple[str, ...]) -> None:
    """Make a bundle and stop when it says a line that begins so."""

    def stop(what: str, _done: int, _total: int) -> None:
        if what.startswith(line):
            raise KeyboardInterrupt

    make_bundle(stores, asked(**selection, allows_gaps=bool(selection)), path, on_step=stop)


def test_half_made_file_of_another_question_is_begun_anew(lake: Path, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.tar"
    with lake_stores(lake) as stores:
        with pytest.raises(KeyboardInterrupt):
            made_until(stores, path, "tables/macro", markets=("binance.perp", "us.macro"))
        assert made(stores, path).n_resumed == 0
    assert path.read_bytes() == bundle.read_bytes()


def test_two_makers_of_one_file_are_one_too_many(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.tar"

    def second(what: str, _done: int, _total: int) -> None:
        if what.startswith("bars/5m"):
            with pytest.raises(Transient, match="another process writes"):
                made(stores, path)

    with lake_stores(lake) as stores:
        make_bundle(stores, asked(), path, on_step=second)
        with pytest.raises(Refused, match="bundle_exists"):
            made(stores, path)


def test_killed_import_is_finished_by_the_next(lake: Path, bundle: Path, tmp_path: Path) -> None:
    killed_after("take", bundle, tmp_path, line="stored tables/basis")
    with lake_stores(tmp_path) as there, lake_stores(lake) as source:
        assert versions(there) != versions(source)

        done = take(there, bundle)

        assert done.n_new and done.n_repeated
        assert versions(there) == versions(source)


def test_import_killed_while_it_checks_has_written_nothing(bundle: Path, tmp_path: Path) -> None:
    killed_after("take", bundle, tmp_path, line="checked tables/basis")

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
