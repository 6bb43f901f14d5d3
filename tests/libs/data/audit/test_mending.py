"""The command that mends a gap names where its market comes from, and commands of one kind are one."""

from __future__ import annotations

import pytest

from qraft_data.audit.mending import mend_command, merged_commands

SPAN = {"after": "2025-06-01T00:00:00Z", "until": "2025-06-02T00:00:00Z"}
ENDS = " --from 2025-06-01T00:00:00Z --until 2025-06-02T00:00:00Z"


@pytest.mark.parametrize(
    ("kind", "market", "interval", "command"),
    [
        ("bars", "crypto", "5m", "load"),
        ("bars", "bybit.perp", "1h", "collect --source exchange --exchange bybit --kind bars --symbol X --interval 1h"),
        ("trades", "kraken.spot", "", "collect --source exchange --exchange kraken --kind trades --symbol X"),
        ("basis", "binance.perp", "", "collect --source derived --kind basis"),
        ("macro", "us.macro", "", "collect --source files --kind macro"),
        ("bars", "us.equities", "1d", "collect --source files --kind bars"),
    ],
)  # fmt: skip
def test_command_brings_rows_from_where_the_market_comes(kind: str, market: str, interval: str, command: str) -> None:
    found = mend_command(kind, market, "X", interval, **SPAN, line_market="crypto")

    assert found == f"qraft data {command}{ENDS}"


def test_commands_of_one_kind_and_market_become_one_of_all_symbols_and_days() -> None:
    def command(symbol: str, first: str, last: str) -> str:
        return mend_command("funding", "binance.perp", symbol, after=first, until=last, line_market="crypto")

    merged = merged_commands([
        command("BTCUSDT", "2025-06-03T00:00:00Z", "2025-06-04T00:00:00Z"),
        command("ETHUSDT", "2025-06-01T00:00:00Z", "2025-06-02T00:00:00.5Z"),
        mend_command("basis", "binance.perp", line_market="crypto"),
    ])  # fmt: skip

    assert merged == [
        "qraft data collect --source derived --kind basis",
        "qraft data collect --source exchange --exchange binance --kind funding --symbol BTCUSDT --symbol ETHUSDT "
        "--from 2025-06-01T00:00:00Z --until 2025-06-04T00:00:00Z",
    ]


def test_a_command_without_a_stretch_takes_the_stretch_from_its_kin() -> None:
    whole = mend_command("funding", "binance.perp", "BTCUSDT", line_market="crypto")
    part = mend_command("funding", "binance.perp", "ETHUSDT", **SPAN, line_market="crypto")

    (merged,) = merged_commands([part, whole])

    assert merged.endswith("--symbol BTCUSDT --symbol ETHUSDT")
