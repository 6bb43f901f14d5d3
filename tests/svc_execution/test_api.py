"""The desk's HTTP API over a real journal: what it answers, how it fails, and that it cannot be made to trade."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.routing import Mount, Route
from tests.kit.servers import free_port
from tests.svc_execution.kit import at, deliver_bar, make_bar, make_targets, walk
from tests.svc_execution.stage import Stage

from qraft_runtime.health import Health
from qraft_runtime.http import build_http_app, serve_http
from svc_execution.adapters.desk_reader import N_POINTS_MAX
from svc_execution.api.events import Broadcast
from svc_execution.app import Application
from svc_execution.settings import ExecutionSettings

pytestmark = pytest.mark.postgres

N = 16
CLOSES = walk(N + 3, seed=11)


@pytest.fixture
async def served(postgres_dsn: str) -> AsyncIterator[tuple[Stage, Application, httpx.AsyncClient]]:
    """The service with a client of its HTTP edge; an event stream takes two clients."""
    stage = Stage(postgres_dsn)
    stage.lake.append([make_bar(i, CLOSES[i]) for i in range(N)])
    async with stage.running(settings=ExecutionSettings(n_event_clients_max=2)) as application:
        port = free_port()
        app = build_http_app(Health(), application.routes)
        async with (
            serve_http(app, host="127.0.0.1", port=port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10.0) as client,
        ):
            yield stage, application, client


async def trade(stage: Stage, application: Application) -> None:
    """Open two positions, then ask for something that is refused."""
    await stage.publish(
        [
            make_bar(N, CLOSES[N]),
            make_targets(N, {"AAA": 0.1, "BBB": -0.1}),
            make_bar(N + 1, CLOSES[N + 1], volumes={"BBB": 1_000.0}),
            make_targets(N + 1, {"AAA": 0.1, "ZZZ": 0.1}),
        ]
    )
    await stage.settle(application)


async def desk(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/desk")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_desk_before_the_first_bar_is_empty_and_whole(served):
    _, _, client = served

    found = await desk(client)

    assert (found["market"], found["interval"], found["as_of"], found["origin"]) == ("crypto", "5m", None, None)
    assert found["equity"]["now"] == found["equity"]["start"] == 1_000_000.0
    assert found["kill_switch"] == {"engaged": False, "reason": None, "actor": None, "at": None}
    empty = ("positions", "orders", "refusals", "scores", "models")
    assert [found[name] for name in empty] == [[]] * len(empty)
    assert found["equity"]["series"] == []
    assert found["latency"]["total"]["n"] == 0


async def test_desk_shows_what_the_journal_holds(served):
    stage, application, client = served
    await trade(stage, application)

    found = await desk(client)

    assert found["as_of"] == "2025-06-01T01:25:00Z"
    assert (found["origin"], found["profile"], found["hold"]) == ("replay", "standard", False)
    positions = {row["symbol"]: row for row in found["positions"]}
    assert set(positions) == {"AAA", "BBB"}
    assert positions["AAA"]["target_weight"] == 0.1
    assert positions["BBB"]["target_weight"] == 0.0
    assert positions["AAA"]["weight"] == pytest.approx(0.1, rel=0.02)
    assert positions["AAA"]["unrealized_pnl"] == pytest.approx(
        positions["AAA"]["quantity"] * (positions["AAA"]["price"] - positions["AAA"]["average_price"])
    )
    orders = {(row["symbol"], row["reason"]): row for row in found["orders"]}
    assert orders["BBB", "close"]["status"] == "open"
    assert orders["AAA", "open"]["status"] == "filled"
    assert orders["BBB", "open"]["status"] == "partial"
    assert orders["BBB", "open"]["expiry_reason"] == "participation"
    assert orders["AAA", "open"]["fill"]["filled_at"] == "2025-06-01T01:25:00Z"
    assert found["orders"][0]["decided_at"] >= found["orders"][-1]["decided_at"]
    assert [(row["reason"], row["n"], row["examples"]) for row in found["refusals"]] == [("unknown_symbol", 1, ["ZZZ"])]
    equity = found["equity"]
    assert equity["pnl"] == pytest.approx(equity["now"] - 1_000_000.0)
    assert equity["fees"] > 0.0
    assert len(equity["series"]) == 2
    assert equity["series"][-1][:2] == [int(at(N + 1).timestamp()), equity["now"]]
    assert found["models"] == [{"horizon": "1h", "model_id": "m0"}]
    assert found["scores"][0]["threshold"] == 0.6
    assert found["symbols"] == ["AAA", "BBB", "CCC"]


async def test_desk_shows_the_kill_switch_at_once(served, postgres_dsn):
    _, _, client = served
    await desk(client)
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("SELECT execution.set_kill_switch('ann', true, 'prices look wrong')")
    await connection.close()

    found = (await desk(client))["kill_switch"]

    assert (found["engaged"], found["actor"], found["reason"]) == (True, "ann", "prices look wrong")
    assert found["at"] is not None


async def test_prices_come_with_their_fills(served):
    stage, application, client = served
    await trade(stage, application)

    found = (await client.get("/api/desk/prices", params={"symbol": "AAA", "limit": 5})).json()

    assert found["symbol"] == "AAA"
    assert [bar[0] for bar in found["bars"]] == [int(at(i).timestamp()) - 300 for i in range(N - 3, N + 2)]
    assert found["bars"][-1][4] == CLOSES[N + 1]["AAA"]
    assert [(f["side"], f["time"]) for f in found["fills"]] == [("buy", int(at(N).timestamp()))]


@pytest.mark.parametrize("symbol", ["ZZZ", "", "'; DROP TABLE execution.fills; --"])
async def test_unknown_symbol_is_a_404_in_the_envelope(served, symbol):
    stage, application, client = served
    await trade(stage, application)

    answer = await client.get("/api/desk/prices", params={"symbol": symbol})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_symbol"


@pytest.mark.parametrize("limit", ["0", "-1", "2001", "x", "1.5", "", "٣", "9" * 400])
async def test_bad_limit_is_a_422_in_the_envelope(served, limit):
    _, _, client = served

    answer = await client.get("/api/desk/prices", params={"symbol": "AAA", "limit": limit})

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_limit"


async def test_root_leads_to_the_page_and_static_files_stay_in_their_folders(served):
    _, _, client = served

    assert (await client.get("/")).headers["location"] == "/desk"
    page = await client.get("/desk")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    for path in ("/desk/static/../routes.py", "/desk/static/%2e%2e/routes.py", "/web/%2e%2e/files.py"):
        assert (await client.get(path)).status_code == 404


async def test_no_route_takes_anything_but_reads(served):
    _, application, client = served
    for route in application.routes:
        assert isinstance(route, Route | Mount)
        path = f"{route.path}/desk.html" if isinstance(route, Mount) else route.path
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            if path != "/api/desk/events":
                assert (await client.request(method, path)).status_code in (404, 405), (method, path)


async def test_series_is_thinned_in_the_database_and_keeps_the_last_mark(served, postgres_dsn):
    _, _, client = served
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(
        """INSERT INTO execution.marks SELECT 'crypto', timestamptz '2025-01-01Z' + i * interval '5 minutes', 0, i, 1e9,
           0, 0, 0, 0, 0, 0, 0, '{}', '{}', '{}', '{}', 'replay', '' FROM generate_series(1, 10007) AS i"""
    )
    await connection.execute("UPDATE execution.progress SET n_events = 1")
    await connection.close()

    series = (await desk(client))["equity"]["series"]

    assert 1_000 < len(series) <= N_POINTS_MAX
    assert [point[1] for point in (series[0], series[-1])] == [1.0, 10007.0]
    assert [point[0] for point in series] == sorted(point[0] for point in series)


async def _events(client: httpx.AsyncClient, n: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with client.stream("GET", "/api/desk/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
            if len(found) == n:
                return found
    return found


async def test_event_stream_tells_of_the_newest_bar(served):
    stage, application, client = served
    await trade(stage, application)

    async with asyncio.timeout(10.0):
        (event,) = await _events(client, 1)

    assert event["as_of"] == "2025-06-01T01:25:00Z"
    assert (event["n_orders"], event["n_fills"]) == (1, 2)
    assert event["equity"] == pytest.approx((await desk(client))["equity"]["now"])


async def test_event_stream_is_bounded_and_frees_the_place_of_who_left(served):
    stage, application, client = served
    await trade(stage, application)
    async with client.stream("GET", "/api/desk/events") as one, client.stream("GET", "/api/desk/events") as two:
        assert (one.status_code, two.status_code) == (200, 200)
        third = await client.get("/api/desk/events")
        assert third.status_code == 503
        assert third.json()["error"]["code"] == "too_many_clients"

    async with asyncio.timeout(10.0):
        while (await _status(client)) != 200:
            await asyncio.sleep(0.01)


async def _status(client: httpx.AsyncClient) -> int:
    async with client.stream("GET", "/api/desk/events") as answer:
        return answer.status_code


async def test_telling_never_waits_and_a_slow_client_gets_the_newest_only():
    broadcast = Broadcast(n_clients_max=1)
    release = asyncio.Event()
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and message["body"].startswith(b"event"):
            await release.wait()
            sent.append(message["body"])

    broadcast.tell("bar", b"0")
    serving = asyncio.create_task(broadcast.serve({"type": "http"}, receive, send))
    await asyncio.sleep(0)
    for i in range(1, 1000):
        broadcast.tell("bar", str(i).encode())
        if i % 100 == 0:
            await asyncio.sleep(0)
    release.set()
    async with asyncio.timeout(5.0):
        while not sent or not sent[-1].endswith(b"999\n\n"):
            await asyncio.sleep(0.01)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

    assert len(sent) <= 3


async def test_desk_says_so_while_the_database_is_away(postgres_dsn):
    stage = Stage(postgres_dsn)
    async with stage.running() as application:
        transport = httpx.ASGITransport(app=build_http_app(Health(), application.routes))
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
            await application._database.close()
            answers = [await client.get("/api/desk"), await client.get("/api/desk/prices", params={"symbol": "AAA"})]

    assert [answer.status_code for answer in answers] == [503, 503]


async def test_reading_the_desk_all_the_time_does_not_change_what_is_traded(served):
    stage, application, client = served
    reading = asyncio.create_task(_read_for_ever(client))
    await trade(stage, application)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await application.merge.on_bars(deliver_bar(make_bar(N, CLOSES[N])))

    assert len((await stage.journal())["marks"]) == 2


async def _read_for_ever(client: httpx.AsyncClient) -> None:
    while True:
        await desk(client)
