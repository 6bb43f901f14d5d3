"""The kept files: what is vendored is unchanged and licensed, and nothing is fetched from elsewhere."""

from __future__ import annotations

import hashlib
import re

from qraft_web import static_dir

VENDORED = static_dir() / "vendor" / "lightweight-charts-5.2.1"
BUNDLE = VENDORED / "lightweight-charts.standalone.production.mjs"
BUNDLE_SHA256 = "1bb1ee79f9d4dd17261b53d930f7a8995748276f80e7ba0e24412b5068062f5f"


def test_chart_library_is_the_published_file_unchanged() -> None:
    assert hashlib.sha256(BUNDLE.read_bytes()).hexdigest() == BUNDLE_SHA256


def test_chart_library_comes_with_its_license_and_notice() -> None:
    notice = (VENDORED / "NOTICE").read_text()

    assert "Apache License" in (VENDORED / "LICENSE").read_text()
    assert BUNDLE_SHA256 in notice
    assert "5.2.1" in notice
    assert "https://www.tradingview.com/" in notice


def test_own_files_load_nothing_from_another_host() -> None:
    own = [path for path in static_dir().rglob("*") if path.suffix in {".js", ".css"}]
    foreign = re.compile(r"""(?:from\s*|import\s*\(?|url\(\s*|@import\s*)["']?(?:https?:)?//""")

    assert own
    assert [path.name for path in own if foreign.search(path.read_text())] == []


def test_own_modules_turn_no_data_into_markup() -> None:
    sinks = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.cssText")

    assert [path.name for path in static_dir().glob("*.js") if sinks.search(path.read_text())] == []
