"""The weekly report: what counts in which week, what is unknown, and what becomes of hostile text."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.libs.web.browser import chromium, open_page

from qraft_contracts.origin import Origin
from qraft_contracts.usage import COLUMNS, ComputeUsage
from qraft_runtime.clock import FixedClock
from svc_billing.api.figures import bytes_text, duration_text, percent_text, usd_text
from svc_billing.api.report_csv import report_csv
from svc_billing.api.report_html import report_html
from svc_billing.api.report_words import WORDS
from svc_billing.api.tables import csv_text
from svc_billing.api.terminal import report_table
from svc_billing.usecases.report import (
    N_HEAVY_JOBS_MAX,
    ColumnTotals,
    Machine,
    WeeklyReport,
    WriteWeeklyReport,
    utilization,
    week_bounds,
    week_of,
)

WEEK = "2026-W47"
SINCE = datetime(2026, 11, 16, tzinfo=UTC)
HOSTILE = '=HYPERLINK("http://evil.example","x")<script>alert(1)</script>'


class UsageInMemory:
    """Booked usage in a list; the twin of the reader in PostgreSQL (test_report_postgres compares them)."""

    def __init__(self, *usage: ComputeUsage) -> None:
        self.usage = list(usage)

    async def totals(self, *, since: datetime, until: datetime) -> tuple[ColumnTotals, ...]:
        found = [it for it in self.usage if since <= it.ended_at < until]
        return tuple(
            _sum(column, [it for it in found if it.column == column])
            for column in COLUMNS
            if any(it.column == column for it in found)
        )

    async def heavy_jobs(
        self, *, since: datetime, until: datetime, compute_ms_min: int, limit: int
    ) -> tuple[int, tuple[ComputeUsage, ...]]:
        found = [it for it in self.usage if since <= it.ended_at < until and it.cpu_ms + it.gpu_ms >= compute_ms_min]
        found.sort(key=lambda it: (-it.cpu_ms - it.gpu_ms, it.usage_id))
        return len(found), tuple(found[:limit])


def _sum(column: str, jobs: list[ComputeUsage]) -> ColumnTotals:
    return ColumnTotals(
        column=column,
        n_jobs=len(jobs),
        n_simulated=sum(it.origin is Origin.SIMULATED for it in jobs),
        n_replayed=sum(it.origin is Origin.REPLAY for it in jobs),
        cpu_ms=sum(it.cpu_ms for it in jobs),
        gpu_ms=sum(it.gpu_ms for it in jobs),
        n_bytes=sum(it.n_bytes for it in jobs),
        provider_cost_microusd=sum(it.provider_cost_microusd or 0 for it in jobs),
        n_cost_unknown=sum(it.provider_cost_microusd is None for it in jobs),
    )


def usage(
    name: str,
    *,
    column: str = "research",
    ended_at: datetime = SINCE + timedelta(hours=5),
    cpu_ms: int = 1_000,
    gpu_ms: int = 0,
    n_bytes: int = 0,
    origin: Origin = Origin.REAL,
    cost: int | None = 0,
    purpose: str = "ablation",
    stop_condition: str = "4 folds",
) -> ComputeUsage:
    return ComputeUsage(
        usage_id=name,
        column=column,
        service="svc_backtest",
        purpose=purpose,
        stop_condition=stop_condition,
        started_at=ended_at - timedelta(seconds=60),
        ended_at=ended_at,
        cpu_ms=cpu_ms,
        gpu_ms=gpu_ms,
        n_bytes=n_bytes,
        origin=origin,
        provider_cost_microusd=cost,
    )


async def report(
    *jobs: ComputeUsage, week: str | None = WEEK, now: datetime = SINCE + timedelta(days=30), n_gpus: int = 0
) -> WeeklyReport:
    machine = Machine(n_cores=4, n_gpus=n_gpus, heavy_job_s=60.0)
    return await WriteWeeklyReport(UsageInMemory(*jobs), machine=machine, clock=FixedClock(now))(week)


async def test_report_without_usage_is_whole_and_empty():
    found = await report()

    assert [it.column for it in found.columns] == list(COLUMNS)
    assert found.total.n_jobs == 0
    assert found.cpu_utilization_frac == 0.0
    assert found.heavy_jobs == ()
    assert "Nothing was booked this week" in report_html(found)


async def test_job_belongs_to_the_week_in_which_it_ended():
    jobs = (
        usage("before", ended_at=SINCE - timedelta(microseconds=1)),
        usage("first", ended_at=SINCE, cpu_ms=10),
        usage("last", ended_at=SINCE + timedelta(days=7, microseconds=-1), cpu_ms=20),
        usage("after", ended_at=SINCE + timedelta(days=7)),
    )

    found = await report(*jobs)

    assert (found.total.n_jobs, found.total.cpu_ms) == (2, 30)
    assert found.is_complete


async def test_unknown_cost_is_counted_and_never_added_as_zero():
    jobs = [usage(f"p{i}", column="provider", cost=cost) for i, cost in enumerate((40_000, None, 2_500, None))]

    found = await report(*jobs)

    provider = next(it for it in found.columns if it.column == "provider")
    assert (provider.provider_cost_microusd, provider.n_cost_unknown) == (42_500, 2)
    html = report_html(found)
    assert "$0.0425" in html
    assert "2 not told" in html
    assert "2 项未告知" in html


async def test_column_whose_costs_are_all_unknown_shows_no_amount():
    found = await report(usage("p", column="provider", cost=None))

    row = report_table(found).splitlines()[6]

    assert row.split()[0] == "provider"
    assert row.split()[-2:] == ["-", "1"]


async def test_utilization_is_measured_against_the_part_of_the_week_so_far():
    now = SINCE + timedelta(hours=10)

    found = await report(usage("a", cpu_ms=4 * 3_600_000), week=None, now=now)

    assert found.week == WEEK
    assert not found.is_complete
    assert found.until == now
    assert found.cpu_utilization_frac == pytest.approx(4 / (4 * 10))


async def test_week_that_has_not_begun_has_no_utilization():
    found = await report(week="2027-W01", now=SINCE)

    assert found.cpu_utilization_frac is None
    assert "–" in report_html(found)


async def test_gpu_utilization_is_shown_where_there_are_gpus():
    without, with_gpu = await report(usage("a")), await report(usage("a", gpu_ms=6_048_000), n_gpus=1)

    assert without.gpu_utilization_frac is None
    assert with_gpu.gpu_utilization_frac == pytest.approx(0.01)
    assert "GPU utilization" not in report_html(without)
    assert "GPU utilization" in report_html(with_gpu)


async def test_heavy_jobs_are_named_with_purpose_and_stop_condition_heaviest_first():
    jobs = [
        usage("light", cpu_ms=59_999),
        usage("cpu", cpu_ms=60_000),
        usage("gpu", cpu_ms=1_000, gpu_ms=90_000, purpose="why it ran", stop_condition="what would end it"),
    ]

    found = await report(*jobs)

    assert [job.usage_id for job in found.heavy_jobs] == ["gpu", "cpu"]
    html = report_html(found)
    assert "why it ran" in html
    assert "what would end it" in html
    assert "light" not in html.split("</style>")[1].replace("color-scheme", "")


async def test_list_of_heavy_jobs_is_bounded_and_says_how_many_there_are():
    found = await report(*(usage(f"job-{i:03d}", cpu_ms=100_000 + i) for i in range(N_HEAVY_JOBS_MAX + 7)))

    assert (len(found.heavy_jobs), found.n_heavy_jobs) == (N_HEAVY_JOBS_MAX, N_HEAVY_JOBS_MAX + 7)
    assert f"The {N_HEAVY_JOBS_MAX} heaviest of {N_HEAVY_JOBS_MAX + 7} are listed." in report_html(found)


async def test_simulated_work_is_marked():
    found = await report(usage("s", column="demo", cpu_ms=70_000, origin=Origin.SIMULATED), usage("r"))

    html = report_html(found)

    assert found.total.n_simulated == 1
    assert "1 of 2 jobs this week are simulated" in html
    assert "本周 2 项任务中有 1 项为模拟" in html


async def test_outside_text_is_no_markup_on_the_page():
    found = await report(usage(HOSTILE, cpu_ms=99_000, purpose=HOSTILE, stop_condition="{0} {title} </style>"))

    html = report_html(found)

    assert "<script" not in html
    assert html.count("</style>") == 1
    assert "&lt;script&gt;" in html
    assert "{0} {title}" in html


async def test_page_stands_alone():
    html = report_html(await report(usage("a")))

    assert "default-src 'none'" in html
    assert "src=" not in html
    assert "<link" not in html
    assert "url(" not in html
    assert "@import" not in html


async def test_csv_holds_columns_total_and_heavy_jobs_and_no_formula():
    found = await report(usage(HOSTILE, cpu_ms=99_500, purpose=HOSTILE, cost=None), usage("b", cost=1_000_001))

    rows = list(csv.DictReader(io.StringIO(report_csv(found), newline="")))

    assert [row["row"] for row in rows] == ["column"] * len(COLUMNS) + ["total", "heavy_job"]
    assert rows[0]["cpu_s"] == "100.500"
    assert rows[0]["provider_cost_usd"] == "1.000001"
    assert rows[0]["n_cost_unknown"] == "1"
    assert rows[-1]["provider_cost_usd"] == ""
    assert rows[-1]["purpose"] == "'" + HOSTILE
    assert rows[-1]["usage_id"] == "'" + HOSTILE


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r\n=1", "＝1", "|calc", "%0A"])
def test_csv_text_that_could_run_is_quoted(text):
    (_, row) = csv.reader(io.StringIO(csv_text(("a",), [(text,)]), newline=""))

    assert row == ["'" + text]


def test_csv_numbers_stay_numbers():
    assert csv_text(("a", "b", "c"), [(-5, None, "x, y")]) == 'a,b,c\r\n-5,,"x, y"\r\n'


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1))
def test_csv_reads_back_as_it_was_but_for_the_apostrophe(cells):
    (_, found) = csv.reader(io.StringIO(csv_text(["h"] * len(cells), [cells]), newline=""))

    for read, written in zip(found, cells, strict=True):
        assert read in (written, "'" + written)
        assert not read.lstrip().startswith(("=", "+", "-", "@"))


FIRST, LAST = datetime(2000, 1, 3), datetime(9999, 12, 1)  # noqa: DTZ001  # hypothesis adds the zone


@given(st.datetimes(min_value=FIRST, max_value=LAST, timezones=st.just(UTC)))
def test_every_instant_lies_in_its_own_week(at):
    since, end = week_bounds(week_of(at))

    assert since <= at < end
    assert end - since == timedelta(days=7)


@pytest.mark.parametrize(
    "week",
    ["", "2026", "2026-47", "2026-W00", "2026-W54", "2025-W53", "1999-W01", "9999-W53", "2026-W047", "２０２６-W47"],
)
def test_what_is_no_week_is_refused(week):
    with pytest.raises(ValueError, match="expected an ISO week"):
        week_bounds(week)


def test_figures_read_well():
    assert [duration_text(ms) for ms in (0, 999, 4_210, 60_000, 61_000, 3_600_000, 11_520_000, 90_000_000)] == [
        "0", "999 ms", "4.2 s", "1 min", "1 min 1 s", "1 h", "3 h 12 min", "1 d 1 h",
    ]  # fmt: skip
    assert [bytes_text(n) for n in (0, 1023, 1024, 1 << 40, 1 << 50)] == [
        "0 B", "1023 B", "1.0 KiB", "1.0 TiB", "1024.0 TiB",
    ]  # fmt: skip
    assert [usd_text(n) for n in (0, 1, 42_500, 1_000_000, 38_412_500, 1_234_567_890)] == [
        "$0.00", "$0.000001", "$0.0425", "$1.00", "$38.41", "$1,234.57",
    ]  # fmt: skip
    assert [percent_text(f) for f in (None, 0.0, 0.0047, 0.5, 1.2)] == ["–", "0.0 %", "0.47 %", "50.0 %", "120.0 %"]
    assert utilization(10, n_units=0, span=timedelta(days=1)) is None


def test_every_text_stands_in_both_languages_with_the_same_values():
    for english, chinese in WORDS.values():
        assert english
        assert chinese
        assert english != chinese
        assert {part.split("}")[0] for part in english.split("{")[1:]} == {
            part.split("}")[0] for part in chinese.split("{")[1:]
        }


@pytest.mark.browser
async def test_page_switches_language_prints_and_fits_a_phone_without_any_request(tmp_path):
    jobs = [
        usage(f"svc_train/{'x' * 60}-{i}", column=column, cpu_ms=80_000 * (i + 1), purpose=f"{HOSTILE} " * 3, cost=None)
        for i, column in enumerate(COLUMNS)
    ]
    page_file = tmp_path / "report.html"
    page_file.write_text(report_html(await report(*jobs)))
    async with chromium() as browser:
        for width in (1440, 390):
            async with open_page(browser, viewport={"width": width, "height": 900}) as (page, complaints):
                asked: list[str] = []
                page.on("request", lambda request, asked=asked: asked.append(request.url))
                await page.goto(page_file.as_uri())
                await page.click('label[for="lang-zh"]')

                assert await page.locator("h1 .zh").is_visible()
                assert not await page.locator("h1 .en").is_visible()
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                assert asked == [page_file.as_uri()]
                assert complaints.found == []
        async with open_page(browser, viewport={"width": 703, "height": 1_000}) as (page, _):  # A4 less its margins
            await page.goto(page_file.as_uri())
            await page.emulate_media(media="print")

            assert not await page.locator(".language-switch").is_visible()
            fits = "[...document.querySelectorAll('table')].every(it => it.getBoundingClientRect().right <= innerWidth)"
            assert await page.evaluate(fits)
