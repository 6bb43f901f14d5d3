"""The decision table: what must not become an order, and the reason that the journal keeps. Real PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.svc_execution.kit import LIMITS, at, deliver_bar, deliver_targets, make_bar, make_targets, walk
from tests.svc_execution.stage import Stage

from qraft_bus.port import Delivery
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Refused
from qraft_contracts.targets import Target, Targets
from svc_execution.app import Application

pytestmark = pytest.mark.postgres

N = 20  # bars before the decision: enough returns for a volatility
CLOSES = walk(N + 3, seed=3)
GOOD = {"AAA": 0.1, "BBB": -0.1}


def bars(n: int = N, **changes: Any) -> list:
    return [make_bar(i, CLOSES[i], **changes) for i in range(n)]


def targets(weights: dict[str, float] | None = None, i: int = N - 1, **changes: Any) -> Targets:
    return make_targets(i, GOOD if weights is None else weights, **changes)


def rows(*pairs: tuple[str, float], policy: str = "short") -> tuple[Target, ...]:
    return tuple(Target(symbol, weight, policy, ()) for symbol, weight in pairs)


def limits(**changes: float) -> Any:
    return msgspec.structs.replace(LIMITS, **changes)


def last_bar(closes: dict[str, float], **changes: Any) -> list:
    return [*bars(N - 1), make_bar(N - 1, closes, **changes)]


def without(symbol: str) -> dict[str, float]:
    return {s: p for s, p in CLOSES[N - 1].items() if s != symbol}


AAA = {"AAA": 0.1}
# name: (bars, targets of the last bar, reason in the journal)
TABLE: dict[str, tuple[list, Targets, str]] = {
    "another market": (bars(), targets(market="stocks"), "market_mismatch"),
    "another interval": (bars(), targets(interval="1h"), "interval_mismatch"),
    "of a bar before the first": (bars(), targets(i=-1), "no_bar"),
    "of a bar that was held": (bars(), targets(i=3), "stale_targets"),
    "off the grid": (bars(), targets(as_of=at(3).replace(second=1)), "no_bar"),
    "real targets on replayed bars": (bars(), targets(origin=Origin.REAL), "origin_mismatch"),
    "real targets on simulated bars": (bars(origin=Origin.SIMULATED), targets(origin=Origin.REAL), "origin_mismatch"),
    "replayed targets on simulated bars": (bars(origin=Origin.SIMULATED), targets(), "origin_mismatch"),
    "one simulated bar long ago": (
        [make_bar(0, CLOSES[0], origin=Origin.SIMULATED), *bars()[1:]],
        targets(),
        "origin_mismatch",
    ),
    "no profile": (bars(), targets(profile=""), "no_profile"),
    "limit of zero": (bars(), targets(limits=limits(symbol_cap=0.0)), "bad_limits"),
    "negative limit": (bars(), targets(limits=limits(gross_max=-1.0)), "bad_limits"),
    "the same symbol twice": (bars(), targets(targets=rows(("AAA", 0.1), ("AAA", 0.1))), "duplicate_symbol"),
    "the same symbol, both sides": (bars(), targets(targets=rows(("AAA", 0.1), ("AAA", -0.1))), "duplicate_symbol"),
    "no symbol": (bars(), targets(targets=rows(("", 0.1))), "unnamed_symbol"),
    "a symbol of spaces": (bars(), targets(targets=rows(("  ", 0.1))), "unnamed_symbol"),
    "an unknown policy": (bars(), targets(targets=rows(("AAA", 0.1), policy="twap")), "unknown_policy"),
    "an empty policy": (bars(), targets(targets=rows(("AAA", 0.1), policy="")), "unknown_policy"),
    "beyond the symbol cap": (bars(), targets({"AAA": 0.21}), "symbol_cap_exceeded"),
    "short beyond the symbol cap": (bars(), targets({"AAA": -0.21}), "symbol_cap_exceeded"),
    "beyond a stricter cap of its own": (
        bars(),
        targets({"AAA": 0.06}, limits=limits(symbol_cap=0.05)),
        "symbol_cap_exceeded",
    ),
    "a looser cap than the venue's": (
        bars(),
        targets({"AAA": 0.9}, limits=limits(symbol_cap=5.0)),
        "symbol_cap_exceeded",
    ),
    "beyond its own gross": (bars(), targets({"AAA": 0.2, "BBB": 0.2}, limits=limits(gross_max=0.3)), "gross_exceeded"),
    "beyond the venue's gross": (
        bars(),
        targets({f"S{i}": 0.2 * (-1) ** i for i in range(6)}, limits=limits(gross_max=5.0)),
        "gross_exceeded",
    ),
    "leverage of one weight": (bars(), targets({"AAA": 1e9}), "symbol_cap_exceeded"),
    "a symbol never seen": (bars(), targets({"ZZZ": 0.1}), "unknown_symbol"),
    "a symbol in other letters": (bars(), targets({"aaa": 0.1}), "unknown_symbol"),
    "no bar of the symbol": (last_bar(without("AAA")), targets(AAA), "nan_price"),
    "NaN close": (last_bar(CLOSES[N - 1] | {"AAA": math.nan}), targets(AAA), "nan_price"),
    "infinite close": (last_bar(CLOSES[N - 1] | {"AAA": math.inf}), targets(AAA), "nan_price"),
    "zero close": (last_bar(CLOSES[N - 1] | {"AAA": 0.0}), targets(AAA), "nan_price"),
    "negative close": (last_bar(CLOSES[N - 1] | {"AAA": -1.0}), targets(AAA), "nan_price"),
    "NaN open": (last_bar(CLOSES[N - 1], opens={"AAA": math.nan}), targets(AAA), "nan_price"),
    "NaN volume": (last_bar(CLOSES[N - 1], volumes={"AAA": math.nan}), targets(AAA), "nan_price"),
    "too little history": (bars(5), targets(AAA, i=4), "no_volatility"),
}


@pytest.fixture(scope="module")
def dsn(postgres_session: Any) -> Any:
    with postgres_session.fresh_database() as found:
        yield found


@pytest.fixture
async def run(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Stage, Application]]:
    """The service on a market of its own."""
    stage = Stage(dsn, market=f"m{abs(hash(request.node.name))}")
    async with stage.running() as application:
        yield stage, application


def readdressed(stage: Stage, message: Any) -> Any:
    """Return a bar or targets of `crypto` as one of the stage's market; other markets stay."""
    if message.market != "crypto":
        return message
    if isinstance(message, Targets):
        return msgspec.structs.replace(message, market=stage.common.market)
    return replace(message, market=stage.common.market)


async def feed(stage: Stage, application: Application, messages: list) -> None:
    """Hand messages to the handlers one after the other, holding bars without targets; a refusal is an answer."""
    for message in messages:
        message = readdressed(stage, message)
        if isinstance(message, Targets):
            await _handle(application.merge.on_targets, deliver_targets(message))
            continue
        async with application.merge._turn:
            state = await application.account.recover()
            if state.last_bar_at != state.last_targets_at:
                await application.account.hold(reason="test")
        stage.lake.append([message])
        await _handle(application.merge.on_bars, deliver_bar(message))


async def _handle(handler: Callable, delivery: Delivery) -> None:
    try:
        await handler(delivery)
    except Refused:
        return


async def refusals(stage: Stage) -> list[tuple[str, int]]:
    connection = await asyncpg.connect(stage.common.postgres_dsn)
    rows_ = await connection.fetch(
        "SELECT reason, n FROM execution.refusals WHERE market = $1 ORDER BY committed_at", stage.common.market
    )
    await connection.close()
    return [(row["reason"], row["n"]) for row in rows_]


@pytest.mark.parametrize("name", TABLE)
async def test_what_must_not_be_traded_gives_no_order_and_its_reason(run, name):
    stage, application = run
    bars_, targets_, reason = TABLE[name]

    await feed(stage, application, [*bars_, targets_])

    journal = await stage.journal()
    assert journal["orders"] == []
    assert [found for found, _ in await refusals(stage)] == [reason]


async def test_the_same_targets_unharmed_do_trade(run):
    stage, application = run

    await feed(stage, application, [*bars(), targets()])

    assert len((await stage.journal())["orders"]) == 2
    assert await refusals(stage) == []


async def test_nan_weight_is_refused_even_though_json_cannot_carry_it(run):
    stage, application = run
    await feed(stage, application, bars())

    await application.account.decide(readdressed(stage, targets({"AAA": math.nan, "BBB": 0.1})), sha256="0", cause={})

    assert (await stage.journal())["orders"] == []
    assert await refusals(stage) == [("nan_weight", 2)]


async def test_second_message_of_one_time_with_other_content_is_refused_once(run):
    stage, application = run
    other = targets({"AAA": 0.2})

    await feed(stage, application, [*bars(), targets(), other, other, targets()])

    assert await refusals(stage) == [("conflicting_targets", 1)]
    assert len((await stage.journal())["orders"]) == 2


async def test_same_bar_with_other_content_is_refused_and_changes_nothing(run):
    stage, application = run
    await feed(stage, application, [*bars(), targets()])
    before = await stage.journal()

    changed = readdressed(stage, make_bar(N - 1, CLOSES[N]))
    await application.merge.on_bars(deliver_bar(changed))

    assert await refusals(stage) == [("conflicting_bar", 1)]
    assert (await stage.journal()) | {"refusals": []} == before


async def test_revision_and_foreign_bars_are_not_traded(run):
    stage, application = run
    await feed(stage, application, bars())
    before = await stage.journal()

    await application.merge.on_bars(deliver_bar(readdressed(stage, make_bar(N - 1, CLOSES[N], revision=1))))
    await application.merge.on_bars(deliver_bar(make_bar(N + 5, CLOSES[N], market="other")))

    assert await stage.journal() == before


async def test_kill_switch_refuses_targets_until_it_is_released(run, dsn):
    stage, application = run
    connection = await asyncpg.connect(dsn)
    await connection.fetchval("SELECT execution.set_kill_switch('ann', true, 'prices look wrong')")

    await feed(stage, application, [*bars(), targets()])
    assert (await stage.journal())["orders"] == []
    assert await refusals(stage) == [("kill_switch", 2)]

    await connection.fetchval("SELECT execution.set_kill_switch('ann', false, 'they are right')")
    await feed(stage, application, [make_bar(N, CLOSES[N]), targets(i=N)])
    await connection.close()
    assert len((await stage.journal())["orders"]) == 2


async def test_hold_keeps_positions_and_trades_nothing(run):
    stage, application = run

    await feed(
        stage,
        application,
        [
            *bars(),
            targets(),
            make_bar(N, CLOSES[N]),
            targets({}, i=N, hold=True, reason="no_signals"),
            make_bar(N + 1, CLOSES[N + 1]),
        ],
    )

    async with application.merge._turn:
        state = await application.account.recover()
    assert set(state.account.positions) == {"AAA", "BBB"}
    assert state.open_orders == ()
    assert await refusals(stage) == []


async def test_undecodable_targets_are_malformed(run):
    stage, application = run
    good = deliver_targets(readdressed(stage, targets()))

    for data in (b"", b"{", b"[]", good.data.replace(b"0.1", b"null"), good.data.replace(b"replay", b"paper")):
        with pytest.raises(Malformed):
            await application.merge.on_targets(replace(good, data=data))
