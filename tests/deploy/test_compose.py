"""compose.yaml and the Dockerfile, checked without an engine."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.render import ROOT

SERVICES = {"ingest", "features", "inference", "allocator", "execution", "billing", "imagegen", "imagegen-worker"}
# Exchanges and providers are outside; the desk, the gateway and the admin API are reached from this machine.
OUTSIDE = {"ingest", "execution", "billing", "imagegen", "imagegen-worker"}
WORKER_DRAIN_S = 12 * 60 + 30
JOBS = {"train", "backtest"}
SERVERS = {"nats", "postgres"}
# Hands a new volume to the bus: root, without a network, with the one capability that this takes.
VOLUME_OWNER = "nats-volume"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def _fits_the_schema(content: dict[str, Any], folder: Path) -> bool:
    file = folder / "compose.yaml"
    file.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


def _violations(compose: dict[str, Any]) -> list[str]:
    found = []
    for name, service in compose["services"].items():
        found += [f"{name}: {text}" for rule in (_hardened, _bounded, _started, _named) for text in rule(name, service)]
        found += [f"{name}: {text}" for text in _resolves(service, compose)]
    return found + list(_kept(compose))


def _hardened(name: str, service: dict[str, Any]) -> Iterator[str]:
    if service.get("read_only") is not True:
        yield "expected a read-only root"
    if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
        yield "expected every capability dropped and no new privileges"
    is_owner = name == VOLUME_OWNER and service.get("network_mode") == "none" and service["cap_add"] == ["CHOWN"]
    if not is_owner and (service.get("user", "0").split(":")[0] in {"0", "root"} or service.get("cap_add")):
        yield "expected a user other than root, with no capability"
    if service.get("privileged") or service.get("network_mode") == "host" or "docker.sock" in str(service):
        yield "expected no way onto the host"


def _bounded(_: str, service: dict[str, Any]) -> Iterator[str]:
    for key in ("cpus", "mem_limit", "pids_limit"):
        if not service.get(key):
            yield f"expected {key}"
    if not re.fullmatch(r"(?:[6-9]\d|\d{3,})s", service.get("stop_grace_period", "")):
        yield "expected at least 60 s to drain"


def _started(name: str, service: dict[str, Any]) -> Iterator[str]:
    if name in SERVICES | JOBS:
        module = f"svc_{name.removesuffix('-worker')}"
        if service.get("command") != ["python", "-m", module]:
            yield "expected to be started by its module"
        if service.get("build", {}).get("args", {}).get("SERVICE") != module:
            yield "expected the image of its own service"
    if name == "imagegen-worker" and int(service["stop_grace_period"].removesuffix("s")) < WORKER_DRAIN_S:
        yield "expected longer than the longest call to drain"
    if name in JOBS and service.get("profiles") != ["jobs"]:
        yield "expected to run only when asked for"
    if name in SERVICES | SERVERS and "test" not in service.get("healthcheck", {}):
        yield "expected a health check"
    if name in SERVICES and service["depends_on"].get("nats") != {"condition": "service_healthy"}:
        yield "expected to wait for a healthy bus"


def _named(_: str, service: dict[str, Any]) -> Iterator[str]:
    if "build" not in service and not re.search(r":(?!latest)[\w.-]+$|@sha256:", service.get("image", "")):
        yield "expected an image with a tag"
    for key, value in service.get("environment", {}).items():
        is_secret = re.search(r"(?i)password|secret|token|dsn", key)
        if is_secret and not re.search(r"\$\{\w+:\?", str(value)):
            yield f"expected {key} from the operator's environment, without a default"


def _resolves(service: dict[str, Any], compose: dict[str, Any]) -> Iterator[str]:
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if not source.startswith((".", "/", "$")) and source not in compose["volumes"]:
            yield f"there is no volume {source}"
    yield from (f"there is no service {one}" for one in service.get("depends_on", {}) if one not in compose["services"])
    yield from (f"there is no network {one}" for one in service.get("networks", []) if one not in compose["networks"])
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            yield f"expected the port {port} to be open on this machine only"


def _kept(compose: dict[str, Any]) -> Iterator[str]:
    if compose["networks"].get("inside") != {"internal": True}:
        yield "expected the inner network to have no way out"
    outside = {name for name, service in compose["services"].items() if "outside" in service.get("networks", [])}
    if not outside <= OUTSIDE:
        yield f"expected only {sorted(OUTSIDE)} on the outer network, received {sorted(outside)}"
    file = compose["configs"]["nats"].get("file", "")
    text = (ROOT / file).read_text() if file else compose["configs"]["nats"].get("content", "")
    if not re.search(r"^\s*sync_interval:\s*always\s*$", text, re.M):
        yield "expected `sync_interval: always` on the bus: acknowledged means on disk"


def test_file_fits_the_compose_specification(compose: dict[str, Any], tmp_path: Path) -> None:
    assert _fits_the_schema(compose, tmp_path)


def test_file_keeps_every_rule(compose: dict[str, Any]) -> None:
    assert _violations(compose) == []
    assert set(compose["services"]) == SERVICES | JOBS | SERVERS | {VOLUME_OWNER}


def _execution(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]["execution"]


_BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "root user": lambda c: _execution(c).update(user="0:0"),
    "no user": lambda c: _execution(c).pop("user"),
    "writable root": lambda c: _execution(c).update(read_only=False),
    "capabilities kept": lambda c: _execution(c).pop("cap_drop"),
    "capability added": lambda c: _execution(c).update(cap_add=["SYS_ADMIN"]),
    "privileged": lambda c: _execution(c).update(privileged=True),
    "host network": lambda c: _execution(c).update(network_mode="host"),
    "engine socket": lambda c: _execution(c)["volumes"].append("/var/run/docker.sock:/var/run/docker.sock"),
    "no memory limit": lambda c: _execution(c).pop("mem_limit"),
    "short drain": lambda c: _execution(c).update(stop_grace_period="10s"),
    "no health check": lambda c: _execution(c).pop("healthcheck"),
    "other service's module": lambda c: _execution(c).update(command=["python", "-m", "svc_ingest"]),
    "other service's image": lambda c: _execution(c)["build"]["args"].update(SERVICE="svc_ingest"),
    "no wait for the bus": lambda c: _execution(c)["depends_on"].pop("nats"),
    "job at every start": lambda c: c["services"]["train"].pop("profiles"),
    "desk open to the network": lambda c: _execution(c).update(ports=["8080:8080"]),
    "unknown volume": lambda c: _execution(c)["volumes"].append("hom:/x"),
    "unknown network": lambda c: _execution(c)["networks"].append("insde"),
    "latest image": lambda c: c["services"]["nats"].update(image="nats:latest"),
    "image without a tag": lambda c: c["services"]["nats"].update(image="nats"),
    "written password": lambda c: c["services"]["postgres"]["environment"].update(POSTGRES_PASSWORD="hunter2"),
    "password with a default": lambda c: c["services"]["postgres"]["environment"].update(
        POSTGRES_PASSWORD="${P:-qraft}"
    ),
    "admin token with a default": lambda c: c["services"]["billing"]["environment"].update(
        QRAFT_BILLING_ADMIN_TOKEN="${T:-letmein}"
    ),
    "worker cut off": lambda c: c["services"]["imagegen-worker"].update(stop_grace_period="60s"),
    "inner network with a way out": lambda c: c["networks"].update(inside={}),
    "features on the outer network": lambda c: c["services"]["features"]["networks"].append("outside"),
    "lazy bus": lambda c: c["configs"].update(nats={"content": "jetstream { store_dir: /data }"}),
}
_MISSPELT: dict[str, Callable[[dict[str, Any]], object]] = {
    "misspelt key": lambda c: _execution(c).update(dependson=["nats"]),
    "text for a list": lambda c: _execution(c).update(ports="8080"),
    "misspelt top level": lambda c: c.update(service={}),
}


@pytest.mark.parametrize("fault", _BROKEN)
def test_broken_file_is_rejected(compose: dict[str, Any], fault: str) -> None:
    broken = copy.deepcopy(compose)
    _BROKEN[fault](broken)

    assert _violations(broken) != []


@pytest.mark.parametrize("fault", _MISSPELT)
def test_misspelt_file_does_not_fit_the_specification(compose: dict[str, Any], fault: str, tmp_path: Path) -> None:
    broken = copy.deepcopy(compose)
    _MISSPELT[fault](broken)

    assert not _fits_the_schema(broken, tmp_path)


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def test_image_is_made_of_checked_files_and_runs_without_root() -> None:
    instructions = _instructions()
    last_stage = len(instructions) - 1 - [word for word, _ in instructions][::-1].index("FROM")
    final = instructions[last_stage:]
    downloads = [text for word, text in instructions if word == "RUN" and "pip download" in text]

    assert ("USER", "10001:10001") in final
    assert [text for word, text in instructions[:last_stage] if word == "USER"] == []
    assert all("--require-hashes" in shlex.split(text) for text in downloads)
    assert len(downloads) == 1
    for word, text in instructions:
        if word == "RUN" and "pip install" in text:
            assert text.count("pip install") == text.count("--no-index"), text
    assert not any(word == "COPY" and "--from=build" not in text for word, text in final)


def test_builder_sees_only_what_images_are_made_of() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    assert rules[0] == "*"
    assert {rule for rule in rules if rule.startswith("!")} == {"!requirements.txt", "!libs/", "!svc_*/"}
