"""The command line: what it offers, what it refuses and with which words, and whose exit codes it keeps."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from qraft_cli import studio
from qraft_cli.main import app
from qraft_cli.stack.services import ALL_SERVICES, IMAGE_STUDIO
from qraft_cli.stack.session import NotRunning
from svc_billing.usecases.prices import read_price_file
from svc_imagegen.adapters.providers.simulated import MODEL, PROVIDER_ID


def _environment(home, **settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QRAFT_")}
    return kept | {"QRAFT_HOME": str(home), "COLUMNS": "200"} | settings


def invoke(*arguments, home, **settings):
    """Run a command in this process: a process of its own takes a second to import what it may need."""
    unset = {name: None for name in os.environ if name.startswith("QRAFT_")}
    return CliRunner().invoke(app, arguments, env=unset | {"QRAFT_HOME": str(home), "COLUMNS": "200"} | settings)


def qraft(*arguments, home, **settings):
    argv = [sys.executable, "-m", "qraft_cli", *arguments]
    return subprocess.run(argv, env=_environment(home, **settings), capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        ("ledger", ("verify", "show", "holds", "report", "prices", "open", "grant")),
        ("images", ("accept", "jobs", "job", "providers", "probe", "keys")),
    ],
)
def test_help_names_every_command_of_the_services(tmp_path, group, commands):
    shown = invoke(group, "--help", home=tmp_path).stdout

    assert [name for name in commands if f" {name} " not in shown] == []


def test_service_command_without_a_stack_says_what_to_start(tmp_path):
    done = invoke("ledger", "verify", home=tmp_path)

    assert isinstance(done.exception, NotRunning)
    assert "qraft up" in str(done.exception)


def test_service_command_is_the_services_own_with_its_help_and_exit_code(tmp_path):
    helped = qraft("ledger", "grant", "--help", home=tmp_path)  # needs no server
    servers = {"QRAFT_NATS_URL": "nats://127.0.0.1:1", "QRAFT_POSTGRES_DSN": "postgresql://127.0.0.1:1/x"}
    wrong = qraft("ledger", "show", home=tmp_path, **servers)

    assert (helped.returncode, wrong.returncode) == (0, 64)
    assert "--promotional" in helped.stdout
    assert "ACCOUNT" in wrong.stderr


def test_unknown_half_is_refused(tmp_path):
    done = invoke("run", "--only", "quantum", home=tmp_path)

    assert done.exit_code == 2
    assert "quant or studio" in done.stderr


def test_day_that_is_not_stored_is_refused_at_once(tmp_path, qraft_data):
    done = invoke("replay", "2031-01-01", "--model", "m1", home=tmp_path, QRAFT_DATA=str(qraft_data))

    assert done.exit_code == 2
    assert "2025-09-30" in done.stderr


def test_prices_of_the_demonstration_are_for_the_simulated_provider_alone():
    rules = read_price_file(studio.PRICES)

    assert {(rule.provider, rule.model) for rule in rules} == {(PROVIDER_ID, MODEL)}
    asked = {(rule.operation, rule.size, rule.quality) for rule in rules}
    assert asked >= {(operation, "auto", "auto") for operation in ("generation", "edit", "variation")}
    assert asked >= {("generation", "1024x1024", quality) for quality in ("low", "medium", "high", "standard", "hd")}


def test_secret_file_is_for_its_owner_only_and_replaced_in_one_step(tmp_path):
    path = tmp_path / "a.token"
    for text in ("one", "two"):
        studio.write_secret(path, text)

        assert path.read_text() == f"{text}\n"
        assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_every_service_has_a_port_of_its_own():
    assert len({it.port for it in ALL_SERVICES.values()}) == len(ALL_SERVICES)
    assert {it.name: it.port for it in IMAGE_STUDIO} == {
        "svc_imagegen": 8710, "svc_billing": 8711, "svc_imagegen-worker": 8712,
    }  # fmt: skip
