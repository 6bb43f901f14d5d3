"""The real data sets run through: every fault that their notes name is found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.svc_ingest.ingest_kit import make_check

from qraft_store.bars.lake import ParquetLake
from svc_ingest.adapters.files import FileSource
from svc_ingest.domain.faults import FaultKind
from svc_ingest.domain.raw import instant_of

pytestmark = pytest.mark.data


async def load(folder: Path, *symbols: str):
    source = FileSource(folder, interval="5m", symbols=symbols)
    await source.open()
    check = make_check()
    batches = []
    async for chunk in source.chunks(after=None, until=None):
        batches += check.take(chunk)
    return batches, check.report


async def test_thin_coin_of_2018_has_its_63_revisions_and_its_gaps(qraft_data: Path, tmp_path: Path) -> None:
    batches, report = await load(qraft_data / "bars/bittrex_5m_2018")

    assert report.count(FaultKind.REVISION) == 63 and report.count(FaultKind.DUPLICATE) == 0
    # The data set's notes say 4,600 gaps and 12,528 bars: they took each of the 63 repetitions for a gap of -1 bar.
    assert report.count(FaultKind.GAP) == 4600 - 63 and report.n_bars_missing["SWTBTC"] == 12_528 + 63
    assert report.count(FaultKind.IMPOSSIBLE) == 0 and report.n_rows["SWTBTC"] == 17_940 - 63
    lake = ParquetLake(tmp_path)
    assert lake.append(batches) == 17_940 and lake.append(batches) == 0
    lake.close()
    panel = lake.read(
        market="crypto", interval="5m", symbols=None, start=instant_of(0).replace(year=2018), end=batches[-1].closed_at
    )
    assert panel is not None
    assert int((~np.isnan(panel.close)).sum()) == 17_940 - 63


async def test_outages_of_2021_are_gaps_and_the_ends_differ(qraft_data: Path) -> None:
    batches, report = await load(qraft_data / "bars/spot_5m_2021", "ADAUSDT", "BTCUSDT")

    for symbol in ("ADAUSDT", "BTCUSDT"):
        assert report.count(FaultKind.GAP, symbol) == 6 and report.n_bars_missing[symbol] == 177
    assert [gap.n_bars for gap in report.gaps if gap.symbol == "BTCUSDT"] == [46, 12, 15, 18, 30, 56]
    assert batches[-1].symbols == ("BTCUSDT",) and batches[-2].symbols == ("ADAUSDT", "BTCUSDT")
    assert report.count(FaultKind.IMPOSSIBLE) == 0


async def test_perpetuals_of_2025_are_whole_and_read_back_as_they_were(qraft_data: Path, tmp_path: Path) -> None:
    batches, report = await load(qraft_data / "bars/perp_5m_2025", "BTCUSDT", "ETHUSDT")
    totals = report.as_dict()["totals"]

    assert totals == dict.fromkeys(totals, 0) | {"rows": 2 * 78_912}
    lake = ParquetLake(tmp_path)
    lake.append(batches[:20_000])
    lake.close()
    panel = lake.read(
        market="crypto", interval="5m", symbols=["BTCUSDT"], start=batches[0].opened_at, end=batches[19_999].closed_at
    )
    assert panel is not None
    np.testing.assert_array_equal(panel.close[:, 0], [batch.close[0] for batch in batches[:20_000]])
