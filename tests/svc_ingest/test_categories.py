"""News are sorted by rules of a version: one text always gets one category, and its row says by which rules."""

from __future__ import annotations

import pyarrow as pa
import pytest
from tests.svc_ingest.collect_kit import T0, Bench, dataset

from qraft_contracts.outcomes import Malformed
from svc_ingest.domain.categories import category_of

NEWS = {
    "kind": "news", "market": "news", "symbol": "BTCUSDT", "time": {"column": "time"}, "row_id": "{id}",
    "fields": {"publisher": {"value": "p"}, "title": "title", "category": {"column": "title", "rules": "news/1"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("title", "category"),
    [
        ("Hungary's central bank chief wants EU-wide crypto trading and mining ban", "regulation"),
        ("SEC sues Binance", "regulation"),
        ("Kraken users report Bitcoin Lightning Network availability", "exchange"),
        ("New US inflation data triggers Bitcoin community reactions", "macro"),
        ("Bitcoin issues: a banner year for seconds", "other"),  # neither `sue`, `ban` nor `sec` stands in it as a word
        ("", "other"),
        (None, "other"),
    ],
)
def test_first_rule_with_a_whole_word_names_the_category(title: str | None, category: str) -> None:
    assert category_of(title, rules="news/1") == category


def test_stored_row_has_its_category_and_says_by_which_rules(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("n", "*.parquet", NEWS))
    time = pa.array([int(T0.timestamp() * 1000)] * 2, pa.timestamp("ms", tz="UTC"))
    bench.write("n.parquet", time=time, id=["1", "2"], title=["Fed hikes rates", "A pizza"])

    bench.collect()

    rows = bench.rows("news", "news")
    assert [row["category"] for row in rows] == ["macro", "other"]
    assert {row["source"] for row in rows} == {"file:n;category=news/1"}


def test_catalogue_with_rules_that_there_are_not_is_refused(tmp_path) -> None:
    unknown = NEWS | {"fields": NEWS["fields"] | {"category": {"column": "title", "rules": "news/0"}}}

    with pytest.raises(Malformed, match="news/1"):
        Bench(tmp_path, dataset("n", "*.parquet", unknown))
