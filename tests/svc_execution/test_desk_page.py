"""The paper desk in a real Chromium, on the real routes over a real journal."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from tests.kit.servers import PostgresServer, free_port
from tests.libs.web.browser import chromium, open_page
from tests.svc_execution.desk_kit import (
    N_BARS_HISTORY,
    REAL_SYMBOLS,
    DeskSite,
    real_bars,
    running_desk,
    simulated,
    trade_momentum,
)
from tests.svc_execution.kit import at, make_bar, make_targets, walk

from qraft_contracts.origin import Origin

# One Chromium and one event loop for the module: a start takes longer than most of these tests.
pytestmark = [pytest.mark.browser, pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]

N_BARS = 372
PHONE = {"width": 390, "height": 844}
TABLET = {"width": 768, "height": 1024}
DESKTOP = {"width": 1440, "height": 900}
PAYLOAD = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>\'"&'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def traded(postgres_session: PostgresServer, qraft_data: Path) -> AsyncIterator[DeskSite]:
    """A desk that has traded six hours of real bars."""
    bars = real_bars(qraft_data, n_bars=N_BARS)
    with postgres_session.fresh_database() as dsn:
        async with running_desk(dsn, history=bars[:N_BARS_HISTORY]) as site:
            await trade_momentum(site, bars)
            yield site


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(postgres_session: PostgresServer) -> AsyncIterator[DeskSite]:
    """A desk that has seen nothing yet."""
    with postgres_session.fresh_database() as dsn:
        async with running_desk(dsn) as site:
            yield site


async def _open(page: Page, site: DeskSite) -> None:
    await page.goto(f"{site.address}/desk")
    await expect(page.locator("body")).to_have_attribute("data-connection", "live")
    await expect(page.locator("#desk")).to_be_visible()


async def _overflow_px(page: Page) -> int:
    return int(await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, TABLET, DESKTOP], ids=["390px", "768px", "1440px"])
async def test_page_fits_its_width_and_complains_about_nothing(
    browser: Browser, traded: DeskSite, viewport: dict[str, int], scheme: str, language: str
) -> None:
    async with open_page(browser, viewport=viewport, color_scheme=scheme, locale=language) as (page, complaints):
        await _open(page, traded)
        await expect(page.locator("#price-chart canvas").first).to_be_visible()
        await expect(page.locator("#equity-chart canvas").first).to_be_visible()

        assert await _overflow_px(page) == 0
        assert complaints.found == []


async def test_figures_of_the_page_are_those_of_the_journal(browser: Browser, traded: DeskSite) -> None:
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, complaints):
        await _open(page, traded)
        answer = await (await page.request.get(f"{traded.address}/api/desk")).json()
        first = answer["orders"][0]
        rows = page.locator("#orders tbody tr")

        await expect(page.locator("#clock")).to_have_text(at(N_BARS).strftime("%Y-%m-%d %H:%M UTC"))
        await expect(page.locator("#metrics dd").first).to_have_text(f"{answer['equity']['now']:,.2f}")
        await expect(rows.first).to_contain_text(first["symbol"])
        await expect(page.locator("#positions tbody tr")).to_have_count(len(answer["positions"]))
        assert await rows.count() == min(len(answer["orders"]), 12)
        assert len(answer["orders"]) > 12

        await page.get_by_role("button", name=re.compile("Show all")).first.click()
        await expect(rows).to_have_count(len(answer["orders"]))
        assert complaints.found == []


async def test_page_says_plainly_that_nothing_passed_and_how_far_it_was(browser: Browser, traded: DeskSite) -> None:
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, _):
        await _open(page, traded)

        await expect(page.locator("#decision .verdict")).to_have_text(
            re.compile(r"^Nothing passed\. The closest is \w+: best score [\d.]+, [\d.]+ below its threshold [\d.]+\.$")
        )
        await expect(page.locator("#decision .score")).to_have_count(4)


async def test_origin_and_demonstration_limits_are_labelled(browser: Browser, traded: DeskSite) -> None:
    async with open_page(browser, viewport=PHONE, locale="en-US") as (page, _):
        await _open(page, traded)

        await expect(page.locator("[data-origin=replay]")).to_have_text("Replay of real data")
        await expect(page.locator("[data-profile=demo]")).to_have_text("DEMO limits")
        await expect(page.locator(".banner-warn")).to_contain_text("Profile demo")
        await expect(page.locator(".banner-hazard")).to_have_count(0)


async def test_language_switches_everything_and_is_kept(browser: Browser, traded: DeskSite) -> None:
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, complaints):
        await _open(page, traded)
        await page.get_by_role("button", name="中文").click()
        await expect(page.locator("h1")).to_have_text("模拟交易台")
        await expect(page.locator("#equity-title")).to_have_text("权益与回撤")
        await page.reload()
        await expect(page.locator("#orders th").first).to_have_text("时间")
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")

        left = await page.locator("main").inner_text()
        english = set(re.findall(r"[A-Za-z]{2,}", left)) - {*REAL_SYMBOLS, "UTC"}
        assert {
            word for word in english if not word.startswith(("svc", "features", "inference", "allocator", "execution"))
        } <= {"bp", "ms"}
        assert complaints.found == []


async def test_words_exist_in_both_languages(browser: Browser, traded: DeskSite) -> None:
    async with open_page(browser, viewport=DESKTOP) as (page, _):
        await _open(page, traded)
        missing = await page.evaluate(
            """async () => {
              const { MESSAGES: { en, zh } } = await import("/desk/static/messages.js");
              const missing = (from, to) => Object.keys(from).filter((key) => !(key in to));
              return [...missing(en, zh), ...missing(zh, en)];
            }"""
        )

        assert missing == []


async def test_symbol_can_be_picked_from_the_list_and_from_a_row(browser: Browser, traded: DeskSite) -> None:
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, complaints):
        await _open(page, traded)
        chart = page.locator("#price-chart")
        await page.get_by_role("combobox", name="Symbol").select_option("BTCUSDT")
        await expect(chart).to_have_attribute("aria-label", re.compile(r"^BTCUSDT: \d+ bars"))
        last = page.locator("#orders .link-button").last
        symbol = await last.inner_text()
        await last.click()

        await expect(chart).to_have_attribute("aria-label", re.compile(rf"^{symbol}: \d+ bars"))
        assert complaints.found == []


async def test_focus_survives_the_next_bar(browser: Browser, fresh: DeskSite) -> None:
    paths = walk(N_BARS_HISTORY + 3, seed=4)
    bars = [make_bar(i + 1, closes) for i, closes in enumerate(paths)]
    fresh.store.append(bars[:N_BARS_HISTORY])
    for i in (N_BARS_HISTORY, N_BARS_HISTORY + 1):
        await fresh.trade(bars[i], make_targets(i + 1, {"AAA": 0.2, "BBB": -0.1}))
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, complaints):
        await _open(page, fresh)
        held = page.locator("#positions .link-button", has_text="BBB")
        before = await page.locator("#positions").inner_text()
        await held.focus()

        await fresh.trade(bars[-1], make_targets(len(bars), {"AAA": 0.2, "BBB": -0.1}))
        await expect(page.locator("#positions")).not_to_have_text(before, use_inner_text=True)

        await expect(held).to_be_focused()
        assert complaints.found == []


async def test_axis_of_an_equity_that_hardly_moves_tells_its_marks_apart(browser: Browser, fresh: DeskSite) -> None:
    paths = walk(N_BARS_HISTORY + 6, seed=4)
    bars = [make_bar(i + 1, path) for i, path in enumerate(paths)]
    fresh.store.append(bars[:N_BARS_HISTORY])
    for i in range(N_BARS_HISTORY, len(bars)):
        await fresh.trade(bars[i], make_targets(i + 1, {"AAA": 0.03}))
    async with open_page(browser, viewport=DESKTOP) as (page, complaints):
        await page.add_init_script(
            """window.drawn = new Set();
            const draw = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
              window.drawn.add(text);
              return draw.call(this, text, ...place);
            };"""
        )
        await _open(page, fresh)
        await expect(page.locator("#equity-chart canvas").first).to_be_visible()
        await page.wait_for_function("[...window.drawn].filter((it) => /^(1,000|999),\\d{3}/.test(it)).length > 2")
        assert not [it for it in await page.evaluate("[...window.drawn]") if it.endswith(("M", "K"))]
        assert complaints.found == []


async def test_every_control_has_a_name_and_a_visible_focus(browser: Browser, traded: DeskSite) -> None:
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, _):
        await _open(page, traded)
        nameless = await page.evaluate(
            """[...document.querySelectorAll("button, select, a, [role=img], [role=region]")].filter((node) => !(
              node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.labels?.length
              || node.textContent.trim())).map((node) => node.outerHTML)"""
        )
        await page.keyboard.press("Tab")
        focus = await page.evaluate(
            "[document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]"
        )

        assert nameless == []
        assert focus == ["skip-link", "solid"]


async def test_fresh_desk_explains_its_empty_places(browser: Browser, fresh: DeskSite) -> None:
    for viewport in (PHONE, DESKTOP):
        async with open_page(browser, viewport=viewport, locale="en-US") as (page, complaints):
            await _open(page, fresh)

            await expect(page.locator("#orders .state-title")).to_have_text("No orders yet")
            await expect(page.locator("#positions .state-title")).to_have_text("No positions")
            await expect(page.locator("#equity-state .state-title")).to_have_text("No equity yet")
            await expect(page.locator("#decision .state-title")).to_have_text("No decisions yet")
            assert await _overflow_px(page) == 0
            assert complaints.found == []


async def test_new_bar_reaches_the_open_page_by_itself(browser: Browser, fresh: DeskSite) -> None:
    closes = walk(2, seed=1)
    await fresh.trade(make_bar(1, closes[0]), make_targets(1, {}))
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, complaints):
        await _open(page, fresh)
        await expect(page.locator("#clock")).to_have_text("2025-06-01 00:05 UTC")

        await fresh.trade(make_bar(2, closes[1]), make_targets(2, {"AAA": 0.1}))

        await expect(page.locator("#clock")).to_have_text("2025-06-01 00:10 UTC")
        assert complaints.found == []


async def test_lost_connection_is_said_and_mends_itself(browser: Browser, postgres_session: PostgresServer) -> None:
    port = free_port()
    with postgres_session.fresh_database() as dsn:
        async with open_page(browser, viewport=PHONE, locale="en-US") as (page, _):
            async with running_desk(dsn, port=port) as site:
                await _open(page, site)
            await expect(page.locator("body")).to_have_attribute("data-connection", "lost", timeout=15_000)
            await expect(page.locator(".banner-lost")).to_contain_text("Connection lost, retrying.")
            await expect(page.locator("#desk")).to_be_visible()  # what was known stays readable

            async with running_desk(dsn, port=port):
                await expect(page.locator("body")).to_have_attribute("data-connection", "live", timeout=30_000)
                await expect(page.locator(".banner-lost")).to_have_count(0)


async def test_desk_without_its_journal_says_what_is_wrong(browser: Browser, fresh: DeskSite) -> None:
    await fresh.application.stop()
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, _):
        await page.goto(f"{fresh.address}/desk")

        await expect(page.locator("#gate [role=alert]")).to_contain_text("The desk does not answer")
        await expect(page.locator("#gate [role=alert]")).to_contain_text("the journal cannot be read right now")
        await expect(page.get_by_role("button", name="Try again now")).to_be_visible()
        await expect(page.locator("#desk")).to_be_hidden()


async def test_markup_in_names_and_reasons_is_inert(browser: Browser, fresh: DeskSite) -> None:
    paths = walk(N_BARS_HISTORY + 3, seed=2, symbols=(PAYLOAD, "AAA"))
    bars = [make_bar(i + 1, closes) for i, closes in enumerate(paths)]
    fresh.store.append(bars[:N_BARS_HISTORY])
    for i in range(N_BARS_HISTORY, len(bars)):
        await fresh.trade(bars[i], make_targets(i + 1, {PAYLOAD: 0.1, "unknown" + PAYLOAD: 0.1}, profile=PAYLOAD))
    _set_kill_switch(fresh, reason=PAYLOAD)
    async with open_page(browser, viewport=DESKTOP, locale="en-US") as (page, complaints):
        await _open(page, fresh)
        await expect(page.locator(".banner-danger")).to_contain_text(PAYLOAD)
        await expect(page.locator("#orders tbody tr").first).to_contain_text(PAYLOAD)
        await expect(page.locator("#refusals")).to_contain_text(PAYLOAD)
        await expect(page.locator("#badges")).to_contain_text(PAYLOAD)
        await expect(page.locator("#price-chart")).to_have_attribute("aria-label", re.compile(re.escape(PAYLOAD)))

        assert await page.evaluate("window.broken") is None
        assert await page.locator("main img, main script").count() == 0
        assert await _overflow_px(page) == 0
        assert complaints.found == []


async def test_engaged_kill_switch_and_simulated_data_are_loud(browser: Browser, fresh: DeskSite) -> None:
    bar = simulated(make_bar(1, walk(1, seed=3)[0]))
    await fresh.trade(bar, make_targets(1, {}, origin=Origin.SIMULATED))
    _set_kill_switch(fresh, reason="prices look wrong")
    async with open_page(browser, viewport=PHONE, locale="en-US") as (page, complaints):
        await _open(page, fresh)

        await expect(page.locator(".banner-hazard")).to_contain_text("SIMULATED DATA.")
        await expect(page.locator("[data-origin=simulated]")).to_have_text("SIMULATED")
        await expect(page.locator(".banner-danger")).to_contain_text("prices look wrong")
        await expect(page.locator(".metric-danger")).to_contain_text("ENGAGED")
        assert complaints.found == []


def _set_kill_switch(site: DeskSite, *, reason: str) -> None:
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute("SELECT execution.set_kill_switch('operator', true, %s)", (reason,))
