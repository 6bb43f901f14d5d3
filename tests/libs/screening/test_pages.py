"""The pages say what was found, hide nothing, load nothing, and can be read on any screen."""

import re

import pytest
from tests.libs.screening.market import DAY_BARS, FIRST_US, STEP_US, asked_of, planted, screened
from tests.libs.web.browser import chromium, open_page

from qraft_screening.pages import Operator, ProofNote, feature_page, set_page
from qraft_screening.pages.charts import bars, curve
from qraft_screening.watch import watch

END_US = FIRST_US + 40 * DAY_BARS * STEP_US
PROVEN = ProofNote("proofs/ab/cd.json", 18, None)
OPERATORS = (Operator("delta", "x - lag(x, k)", '{"k": {"minimum": 1}}'),)


@pytest.fixture(scope="module")
def pages():
    panel = planted(60)
    found = screened(panel, until_us=END_US)
    later = watch(panel, found.reference, asked_of(panel, after_us=END_US).source, horizon_bars=12)
    screening = found.screening
    of = {
        it.name: feature_page(screening, it, proof=PROVEN, operators=OPERATORS, later=later.feature(it.name))
        for it in screening.features
    }
    return screening, of, set_page(screening, link=lambda name: f"features/{name}.html")


def test_page_of_a_feature_holds_everything_that_is_known_of_it(pages):
    screening, of, _ = pages
    page, it = of["falls"], screening.feature("falls")

    for said in ("falls()", "proofs/ab/cd.json", f"{it.ic:+.4f}", f"{it.t:+.2f}", "lag(x, k)", "2025-03", "100.0%",
                 screening.source.data_sha256, "after the training window", "入选"):  # fmt: skip
        assert said in page
    assert f"{it.half_life_bars:.3g} K" in page or f"{it.half_life_bars:.3g} bars" in page
    assert page.count("<svg") == 3


def test_what_is_not_known_is_a_dash_and_no_zero(pages):
    _, of, _ = pages

    assert "<dd>–</dd>" in of["constant"] and "one value fills 100" in of["constant"]
    assert "no information whose life could be measured" in of["noise"]


def test_feature_without_a_proof_says_so():
    screening = screened(planted(30)).screening
    page = feature_page(screening, screening.features[0], proof=ProofNote("", 0, "no proof stands"))

    assert "not proven" in page and "no proof stands" in page and ">proven" not in page


def test_page_of_the_set_names_every_feature_with_its_reason(pages):
    screening, _, page = pages

    for it in screening.features:
        assert f'href="features/{it.name}.html"' in page
    assert page.index(">falls<") < page.index(">noise<") < page.index(">constant<")
    assert "say the same" in page or "says the same" in page
    assert "false_discovery_max 0.05" in page


def test_pages_load_nothing_and_run_nothing(pages):
    _, of, whole = pages

    for page in (*of.values(), whole):
        assert not re.search(r"<script|src=|@import|url\(|https?://", page)


def test_names_and_formulas_cannot_break_out(pages):
    import msgspec

    screening, _, _ = pages
    hostile = msgspec.structs.replace(screening.features[0], formula="<script>alert(1)</script>", reason='"><img>')

    page = feature_page(screening, hostile, proof=PROVEN)

    assert "<script>" not in page and "<img>" not in page and "&lt;script&gt;" in page


def test_charts_carry_their_numbers_as_text():
    drawn = bars(["a", "b"], [0.5, None], what="IC", form="+.2f", colors=["red", "red"], limits=((0.25, "limit"),))

    assert 'aria-label="IC: a +0.50; b unknown"' in drawn and drawn.count("<rect") == 1 and "0.25" in drawn
    assert 'aria-label="x: 0 +1.0; 5 -1.0"' in curve(["0", "5", "9"], [1.0, -1.0, None], what="x", form="+.1f")
    assert "<svg" in bars([], [], what="IC", form="+.2f", colors=[])


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_fit_any_screen_and_their_words_can_be_read(pages, tmp_path, scheme):
    _, of, whole = pages
    (tmp_path / "set.html").write_text(whole)
    (tmp_path / "falls.html").write_text(of["falls"])

    async with chromium() as browser:
        for width in (390, 1440):
            view = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
            async with open_page(browser, **view) as (page, complaints):
                for name in ("set", "falls"):
                    await page.goto((tmp_path / f"{name}.html").as_uri())

                    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
                    assert await page.evaluate(_LOWEST_CONTRAST) >= 4.5, (name, scheme)
                assert complaints.found == []


# WCAG 2.2 contrast of every text against the page, whose background is the browser's own canvas.
_LOWEST_CONTRAST = """() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const probe = document.createElement('div'); probe.style.color = 'Canvas'; document.body.append(probe);
  const back = light(getComputedStyle(probe).color); probe.remove();
  let lowest = 21;
  for (const it of document.querySelectorAll('h1,h2,p,dt,dd,th,td,small,a,span.verdict,td span,code,svg text')) {
    const style = getComputedStyle(it), front = light(it.matches('svg text') ? style.fill : style.color);
    lowest = Math.min(lowest, (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05));
  }
  return lowest;
}"""
