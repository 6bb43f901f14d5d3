"""The shared modules and tokens, in a real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from tests.libs.web.browser import chromium, open_page, serve

from qraft_web import static_dir

# One Chromium and one event loop for the module: a start takes longer than all of these tests.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

_BLANK = """<!doctype html><title>blank</title>
<link rel="icon" href="/web/qraft.svg"><link rel="stylesheet" href="/web/tokens.css"><main id="main"></main>"""
_TEXT_TOKENS = ["ink", "muted", "accent", "up", "down", "warn"]
_PAIRS = [(text, ground) for text in _TEXT_TOKENS for ground in ("bg", "surface", "raised")] + [
    ("accent", "accent-soft"),
    ("up", "up-soft"),
    ("down", "down-soft"),
    ("warn", "warn-soft"),
    ("hazard-ink", "hazard"),
]
_CONTRAST_MIN = 4.5  # WCAG 2.2, 1.4.3 Contrast (Minimum), level AA


async def _blank(_: Request) -> HTMLResponse:
    return HTMLResponse(_BLANK)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site() -> AsyncIterator[tuple[Browser, str]]:
    app = Starlette(routes=[Route("/", _blank), Mount("/web", StaticFiles(directory=static_dir()))])
    async with serve(app) as address, chromium() as browser:
        yield browser, address


@pytest_asyncio.fixture(loop_scope="module")
async def page(request: pytest.FixtureRequest, site: tuple[Browser, str]) -> AsyncIterator[Page]:
    browser, address = site
    context: dict[str, Any] = getattr(request, "param", {})
    async with open_page(browser, **context) as (page, complaints):
        await page.goto(address)
        yield page
        assert complaints.found == []


async def test_numbers_are_short_signed_and_never_pretend_to_know(page: Page) -> None:
    shown = await page.evaluate(
        """async () => {
          const { createFormat } = await import("/web/format.js");
          const f = createFormat("en");
          return [f.price(114340.3), f.price(2.9734), f.price(0.00012345), f.moneySigned(-29478.4), f.moneySigned(0),
            f.percentSigned(0.0123), f.percent(-0.00001), f.basisPoints(0.00165), f.milliseconds(2.104),
            f.milliseconds(12500), f.money(null), f.price(NaN), f.percent(Infinity), f.integer(undefined)];
        }"""
    )

    assert shown == [
        *("114,340.3", "2.9734", "0.00012345", "−29,478", "0", "+1.23%", "0.00%", "16.5 bp", "2.10 ms", "12.5 s"),
        *("–", "–", "–", "–"),
    ]


async def test_marks_of_an_axis_tell_their_step_and_are_short_where_they_can_be(page: Page) -> None:
    shown = await page.evaluate(
        """async () => {
          const { createFormat } = await import("/web/format.js");
          const f = createFormat("en");
          const axis = (marks) => marks.map(f.axis(marks));
          return [axis([980_000, 990_000, 1_000_000]), axis([999_500, 1_000_000, 1_000_500]),
            axis([1_000_120, 1_000_140]), axis([99.9975, 100, 100.0025]), axis([1_000_000]), axis([]),
            [f.axis([1_000_120, 1_000_140])(1_000_131.7), f.axis([-20, 0, 20])(-20)]];
        }"""
    )
    assert shown == [
        ["980K", "990K", "1M"], ["999,500", "1,000,000", "1,000,500"],
        ["1,000,120", "1,000,140"], ["99.9975", "100.0000", "100.0025"], ["1M"], [],
        ["1,000,132", "\u221220"],
    ]  # fmt: skip


async def test_instants_are_utc_whatever_the_machine_says(page: Page) -> None:
    shown = await page.evaluate(
        """async () => {
          const { createFormat } = await import("/web/format.js");
          return ["en", "zh-CN"].flatMap((tag) => {
            const f = createFormat(tag);
            return [f.instant("2025-06-01T00:05:00Z"), f.instant(1748736300), f.dayAndTime("2025-06-01T02:05:00+02:00"),
              f.instant(null), f.instant("nonsense")];
          });
        }"""
    )

    assert shown == ["2025-06-01 00:05 UTC", "2025-06-01 00:05 UTC", "06-01 00:05", "–", "–"] * 2


@pytest.mark.parametrize(
    ("page", "expected"),
    [({"locale": "zh-TW"}, "zh"), ({"locale": "fr-FR"}, "en"), ({"locale": "en-GB"}, "en")],
    indirect=["page"],
)
async def test_language_follows_the_browser_until_one_is_chosen(page: Page, expected: str) -> None:
    code = await page.evaluate("async () => (await import('/web/i18n.js')).createI18n({en: {}, zh: {}}).code")
    await page.evaluate("async () => (await import('/web/i18n.js')).createI18n({en: {}, zh: {}}).use('zh')")
    await page.reload()
    kept = await page.evaluate("async () => (await import('/web/i18n.js')).createI18n({en: {}, zh: {}}).code")

    assert (code, kept) == (expected, "zh")


async def test_shared_words_exist_in_both_languages(page: Page) -> None:
    missing = await page.evaluate(
        """async () => {
          const { SHARED_MESSAGES: { en, zh } } = await import("/web/i18n.js");
          const missing = (from, to) => Object.keys(from).filter((key) => !(key in to));
          return [...missing(en, zh), ...missing(zh, en)];
        }"""
    )

    assert missing == []


@pytest.mark.parametrize("attribute", ["onclick", "style", "srcdoc", "ONLOAD"])
async def test_inline_code_and_style_are_refused(page: Page, attribute: str) -> None:
    refused = await page.evaluate(
        """async (attribute) => {
          const { h } = await import("/web/dom.js");
          try { h("p", { [attribute]: "alert(1)" }); } catch (error) { return error.message; }
          return "built";
        }""",
        attribute,
    )

    assert refused.startswith("refused the attribute")


async def test_text_stays_text(page: Page) -> None:
    shown = await page.evaluate(
        """async () => {
          const { h } = await import("/web/dom.js");
          const node = h("td", { title: '"><b>' }, "<img src=x onerror=alert(1)>", null, 0);
          return [node.children.length, node.textContent, node.getAttribute("title")];
        }"""
    )

    assert shown == [0, "<img src=x onerror=alert(1)>0", '"><b>']


async def test_only_real_and_replay_are_quiet_origins(page: Page) -> None:
    kinds = await page.evaluate(
        """async () => {
          const { createI18n } = await import("/web/i18n.js");
          const { originBadge } = await import("/web/ui.js");
          const i18n = createI18n({ en: {}, zh: {} });
          return ["real", "replay", "simulated", "made_up"].map((origin) => originBadge(i18n, origin).className);
        }"""
    )

    assert kinds == ["badge badge-up", "badge badge-accent", "badge badge-hazard", "badge badge-hazard"]


@pytest.mark.parametrize("page", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
async def test_every_text_token_is_readable_on_every_ground(page: Page) -> None:
    ratios = await page.evaluate(_CONTRAST, _PAIRS)

    assert {pair: ratio for pair, ratio in ratios.items() if ratio < _CONTRAST_MIN} == {}


# Relative luminance and contrast ratio as WCAG 2.2 defines them.
_CONTRAST = """(pairs) => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number);
    probe.remove();
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  return Object.fromEntries(pairs.map(([text, ground]) => {
    const [light, dark] = [luminance(text), luminance(ground)].sort((a, b) => b - a);
    return [`${text} on ${ground}`, (light + 0.05) / (dark + 0.05)];
  }));
}"""
