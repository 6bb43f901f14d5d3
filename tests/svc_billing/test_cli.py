"""The operator's sub-commands as processes: what they print, and how they end."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Awaitable, Callable

import pytest
from tests.svc_billing.edge_kit import PER_IMAGE, fund, ledger_on, reserve, run_cli, running, settle

from qraft_contracts.billing import DisputeHold
from qraft_runtime.settings import CommonSettings
from svc_billing.__main__ import open_books
from svc_billing.api.arguments import parse
from svc_billing.api.console import Unusable, execute
from svc_billing.settings import BillingSettings

pytestmark = [pytest.mark.postgres]

PRICES = """
[[price]]
provider = "simulated"
model = "simulated-1"
operation = "generation"
size = "1024x1024"
quality = ["high", "low"]
per_image = "4"
"""


@pytest.fixture
def here(postgres_dsn: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., Awaitable[str]]:
    """Run a command in this process, as `__main__` does, and return what it prints."""

    async def run(*arguments: str) -> str:
        capsys.readouterr()
        async with open_books(CommonSettings(postgres_dsn=postgres_dsn), BillingSettings(n_cores=8)) as books:
            assert await execute(books, parse(list(arguments))) == 0
        return capsys.readouterr().out

    return run


async def test_operator_opens_funds_prices_and_reads_an_account(postgres_dsn, tmp_path, here):
    file = tmp_path / "prices.toml"
    file.write_text(PRICES)
    grant = ("grant", "acme", "12.5", "--id", "invoice-1", "--expires-days", "30")

    opened = await run_cli(postgres_dsn, "open", "acme")
    granted = await run_cli(postgres_dsn, *grant)
    other = await run_cli(postgres_dsn, "grant", "acme", "13", "--id", "invoice-1", "--expires-days", "30")
    priced = await run_cli(postgres_dsn, "prices", str(file))
    shown = await run_cli(postgres_dsn, "show", "acme")

    assert opened == (0, "acme is open\n", "")
    assert await here("open", "acme") == "acme was open already\n"
    assert granted == (0, "acme: 12.5 credits granted; available now: 12.5\n", "")
    assert await here(*grant) == "acme: 12.5 credits had been granted already; available then: 12.5\n"
    assert (other[0], other[1], len(other[2].splitlines())) == (1, "", 1)
    assert "operation_conflict" in other[2]
    assert priced == (0, "2 prices published as version 1\n", "")
    assert await here("prices", str(file)) == "version 1 says the same already\n"
    file.write_text(await here("prices"))
    assert await here("prices", str(file)) == "version 1 says the same already\n"
    lines = shown[1].splitlines()
    assert lines[0].split() == ["time", "(UTC)", "kind", "amount", "available", "held", "job"]
    assert [line.split()[2:6] for line in lines[2:4]] == [["account_opened", "0", "0", "0"],
                                                          ["credits_granted", "12.5", "12.5", "0"]]  # fmt: skip
    assert lines[-1] == "acme: available 12.5, held 0, spent 0, shortfall 0 credits"


async def test_statement_reads_the_same_as_table_json_and_csv(postgres_dsn, here):
    await fund(postgres_dsn, "acme")
    async with ledger_on(postgres_dsn) as (ledger, _):
        for command in (reserve("a"), settle("a", PER_IMAGE), reserve("b")):
            await ledger.submit(command)

    table = (await here("show", "acme")).splitlines()[2:7]
    page = json.loads(await here("show", "acme", "--json"))
    rows = list(csv.DictReader(io.StringIO(await here("show", "acme", "--csv"), newline="")))
    newest = json.loads(await here("show", "acme", "--json", "--limit", "1"))

    kinds = ["account_opened", "credits_granted", "credits_reserved", "hold_settled", "credits_reserved"]
    assert [line["kind"] for line in page["lines"]] == [row["kind"] for row in rows] == kinds
    assert [line.split()[2] for line in table] == kinds
    assert table[3].split()[3:] == ["4", "3996", "0", "job/a"]
    assert page["lines"][3]["amount_microcredits"] == int(rows[3]["amount_microcredits"]) == PER_IMAGE
    assert page["lines"][4]["held_change_microcredits"] == 2 * PER_IMAGE
    assert newest["lines"] == page["lines"][-1:]


async def test_holds_are_listed_by_state(postgres_dsn, here):
    await fund(postgres_dsn, "acme")
    dispute = DisputeHold("d", "hold/b", "read time-out")
    async with ledger_on(postgres_dsn) as (ledger, _):
        for command in (reserve("a"), reserve("b"), dispute, reserve("c"), settle("c")):
            await ledger.submit(command)

    found = {
        state: [it["hold_id"] for it in json.loads(await here("holds", "--state", state, "--json"))["holds"]]
        for state in ("open", "disputed", "settled", "refund_failing")
    }
    of_others = json.loads(await here("holds", "--state", "settled", "--account", "bolt", "--json"))["holds"]
    of_one = json.loads(await here("holds", "--state", "settled", "--account", "acme", "--json"))["holds"]
    table = (await here("holds", "--state", "disputed")).splitlines()

    assert found == {"open": ["hold/a", "hold/b"], "disputed": ["hold/b"], "settled": ["hold/c"], "refund_failing": []}
    assert table[2].split()[2:5] == ["acme", "disputed", "8"]
    assert (of_others, [it["hold_id"] for it in of_one]) == ([], ["hold/c"])


async def test_report_is_written_as_page_and_table(tmp_path, here):
    html, sheet = tmp_path / "week.html", tmp_path / "week.csv"

    out = await here("report", "--week", "2026-W47", "--html", str(html), "--csv", str(sheet))

    assert out.startswith("week 2026-W47 (")
    assert "of 8 cores" in out
    assert "2026-W47" in html.read_text()
    assert sheet.read_text().count("2026-W47") == 6


async def test_verify_finds_nothing_on_a_whole_ledger_and_names_what_is_broken(postgres_dsn):
    await fund(postgres_dsn, "acme")
    async with ledger_on(postgres_dsn) as (ledger, database):
        await ledger.submit(reserve("a"))
        whole = await run_cli(postgres_dsn, "verify", "--json")
        await database.read.execute("UPDATE billing.accounts SET held = held - 1, spent = spent + 1 WHERE held > 0")
        broken, broken_json = await asyncio.gather(
            run_cli(postgres_dsn, "verify"), run_cli(postgres_dsn, "verify", "--json")
        )

    assert whole[0] == 0
    assert json.loads(whole[1])["violations"] == []
    assert "replaying" in whole[2]
    assert broken[0] == broken_json[0] == 2
    assert "acme" in broken[1]
    assert json.loads(broken_json[1])["violations"]


@pytest.mark.nats
async def test_commands_run_beside_the_service(nats_url, postgres_dsn, here):
    async with running(nats_url, postgres_dsn):
        printed = [await here("open", "acme"), await here("grant", "acme", "1", "--id", "g")]

    assert printed == ["acme is open\n", "acme: 1 credits granted; available now: 1\n"]


WRONG = {
    ("grant", "acme", "1e3", "--id", "x"): "expected credits",
    ("grant", "acme", "-1", "--id", "x"): "expected credits",
    ("grant", "acme", "0", "--id", "x"): "more than 0",
    ("grant", "acme", "1"): "--id",
    ("grant", "acme", "1", "--id", "\udcff"): "printable",
    ("grant", "acme", "1", "--id", "x", "--expires-days", "0"): "whole number",
    ("report", "--week", "2026-W54"): "ISO week",
    ("holds", "--state", "lost"): "lost",
    ("show", "acme", "--limit", "0"): "whole number",
    ("show", "acme", "--json", "--csv"): "not allowed with",
    ("nonsense",): "nonsense",
}


def test_wrong_command_line_ends_with_64_and_one_sentence(capsys):
    for arguments, says in WRONG.items():
        with pytest.raises(SystemExit) as ended:
            parse(list(arguments))

        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (64, "")
        assert says in err, arguments
        assert len(err.splitlines()) == 1


async def test_process_ends_with_64_when_its_command_line_is_wrong(postgres_dsn):
    assert (await run_cli(postgres_dsn, "grant", "acme", "1"))[0] == 64


async def test_what_cannot_be_done_is_said_in_one_sentence(here):
    failing = {
        ("show", "nobody"): "no account",
        ("grant", "nobody", "1", "--id", "x"): "account_unknown",
        ("open", "Not An Account"): "invalid",
        ("prices", "/nowhere/prices.toml"): "cannot read",
        ("report", "--html", "/nowhere/report.html"): "cannot write",
    }
    for arguments, says in failing.items():
        with pytest.raises(Unusable) as caught:
            await here(*arguments)

        assert says in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


async def test_database_that_is_away_is_said_in_one_sentence_without_its_password():
    code, out, err = await run_cli("postgresql://someone:s3cret@127.0.0.1:1/qraft", "verify")

    assert (code, out) == (1, "")
    assert "the database is away" in err
    assert "s3cret" not in err
    assert len(err.splitlines()) == 1


async def test_help_says_what_the_exit_codes_mean():
    code, out, _ = await run_cli("postgresql://127.0.0.1:1/qraft", "verify", "--help")

    assert code == 0
    assert "2 `verify` found" in " ".join(out.split())
