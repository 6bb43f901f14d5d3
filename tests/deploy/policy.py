"""What every rendered Kubernetes document has to keep, beyond its schema. Each rule yields its violations in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Document = dict[str, Any]

GRACE_S_MIN = 60
# Made by the operator (k8s/README.md), so no file holds it. The keys are those that the README names.
SECRETS_OUTSIDE = {
    "qraft-postgres": {"user", "password", "dsn"},
    "qraft-billing": {"admin-token"},
    "qraft-providers": {"openai"},
}
# What is never the internet: the cluster, its neighbors, and a cloud's metadata service.
PRIVATE_RANGES = {"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"}
OWN_IMAGES = re.compile(r"(?:^|/)svc-[a-z]+(?:[:@]|$)")
_VOLUME_KINDS = {"configMap", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"}
_LONG_RUNNING = {"Deployment", "StatefulSet"}
_PASSWORD_IN_URL = re.compile(r"://[^/@]*:[^/@]*@")
_SECRET_NAME = re.compile(r"(?i)password|passwd|secret|token|api_?key|_dsn$")


def violations(documents: list[Document], *, digests_only: bool = False) -> list[str]:
    """Return every violation; digests_only also asks our own images to be pinned by digest."""
    found = [f"{_name(document)}: {text}" for document in documents for rule in RULES for text in rule(document)]
    found += [text for rule in CLUSTER_RULES for text in rule(documents)]
    return found + [text for text in _unpinned(documents) if digests_only]


def pod_of(document: Document) -> Document | None:
    """Return the pod spec of a workload, None for anything else."""
    template = _template(document)
    return template["spec"] if template else None


def containers_of(document: Document) -> list[Document]:
    """Return all containers of a workload, init containers too."""
    pod = pod_of(document) or {}
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def _template(document: Document) -> Document | None:
    kind, spec = document["kind"], document.get("spec", {})
    if kind == "Pod":
        return document
    if kind == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"] if kind in _WORKLOADS else None


def _name(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def _restricted_pod(document: Document) -> Iterator[str]:
    pod = pod_of(document)
    if pod is None:
        return
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        yield "expected runAsNonRoot and a runAsUser other than 0"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "expected the seccomp profile RuntimeDefault"
    if pod.get("automountServiceAccountToken") is not False:
        yield "expected no service account token"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "expected no host namespace"
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= _VOLUME_KINDS:
            yield f"volume {volume['name']}: expected a kind that the restricted profile allows"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']}: expected a sizeLimit"


def _restricted_containers(document: Document) -> Iterator[str]:
    for container in containers_of(document):
        context, name = container.get("securityContext", {}), container["name"]
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name}: expected no privilege and no way to gain it"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: expected a read-only root"
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{name}: expected every capability dropped, none added"
        if context.get("runAsUser", 1) == 0 or context.get("runAsNonRoot", True) is not True:
            yield f"{name}: expected the pod's user"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: expected no hostPort"


def _bounded(document: Document) -> Iterator[str]:
    for container in containers_of(document):
        resources = container.get("resources", {})
        for kind in ("requests", "limits"):
            missing = {"cpu", "memory", "ephemeral-storage"} - set(resources.get(kind, {}))
            if missing:
                yield f"{container['name']}: expected {kind} of {sorted(missing)}"
    pod = pod_of(document)
    if pod is not None and pod.get("terminationGracePeriodSeconds", 30) < GRACE_S_MIN:
        yield f"expected at least {GRACE_S_MIN} s to drain"


def _probed(document: Document) -> Iterator[str]:
    if document["kind"] not in _LONG_RUNNING:
        return
    for container in document["spec"]["template"]["spec"]["containers"]:
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe not in container:
                yield f"{container['name']}: expected a {probe}"
                continue
            port = container[probe].get("httpGet", {}).get("port")
            if port is not None and port not in ports:
                yield f"{container['name']}: the {probe} names the port {port}, the container has {sorted(ports)}"


def _named_images(document: Document) -> Iterator[str]:
    for container in containers_of(document):
        name = container["image"].rsplit("/", 1)[-1]
        if "@sha256:" not in name and (":" not in name or name.endswith(":latest")):
            yield f"expected an image with a tag other than latest, or a digest, received {container['image']}"


def _selects_itself(document: Document) -> Iterator[str]:
    if document["kind"] in _LONG_RUNNING:
        spec = document["spec"]
        labels = spec["template"]["metadata"].get("labels", {})
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            yield "the selector does not match the template's own labels"


def _no_secret_literals(document: Document) -> Iterator[str]:
    if document["kind"] == "Secret":
        yield "expected secrets to be made outside of the repository"
    for key in document.get("data", {}) if document["kind"] == "ConfigMap" else ():
        if _SECRET_NAME.search(key):
            yield f"{key} does not belong into a ConfigMap"
    for container in containers_of(document):
        for entry in container.get("env", []):
            is_secret = _SECRET_NAME.search(entry["name"]) or _PASSWORD_IN_URL.search(str(entry.get("value", "")))
            if "value" in entry and is_secret:
                yield f"{container['name']}: {entry['name']} is written out"


def _pods(documents: list[Document]) -> Iterator[tuple[str, dict[str, str], Document]]:
    for document in documents:
        template = _template(document)
        if template is not None:
            yield _name(document), template["metadata"].get("labels", {}), template["spec"]


def _selectors_find_pods(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            wanted, ports = spec["selector"], {port["targetPort"] for port in spec["ports"]}
        elif document["kind"] == "PodDisruptionBudget":
            wanted, ports = spec["selector"]["matchLabels"], set()
        elif document["kind"] == "NetworkPolicy":
            wanted, ports = spec["podSelector"].get("matchLabels", {}), set()
        else:
            continue
        chosen = [pod for _, labels, pod in _pods(documents) if wanted.items() <= labels.items()]
        if not chosen:
            yield f"{_name(document)}: selects no pod"
        names = {port["name"] for pod in chosen for c in pod["containers"] for port in c.get("ports", [])}
        if not ports <= names:
            yield f"{_name(document)}: targets the ports {sorted(ports)}, the pods have {sorted(names)}"


def _references_resolve(documents: list[Document]) -> Iterator[str]:
    named = {(document["kind"], document["metadata"]["name"]) for document in documents}
    for name, _, pod in _pods(documents):
        volumes = pod.get("volumes", [])
        claims = [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]
        maps = [v["configMap"]["name"] for v in volumes if "configMap" in v]
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            maps += [s["configMapRef"]["name"] for s in container.get("envFrom", []) if "configMapRef" in s]
            for entry in container.get("env", []):
                secret = entry.get("valueFrom", {}).get("secretKeyRef")
                if secret and secret["key"] not in SECRETS_OUTSIDE.get(secret["name"], set()):
                    yield f"{name}: the secret {secret['name']} has no key {secret['key']}"
        for kind, wanted in (("ConfigMap", maps), ("PersistentVolumeClaim", claims)):
            yield from (f"{name}: there is no {kind} {one}" for one in wanted if (kind, one) not in named)


def _every_service_is_protected(documents: list[Document]) -> Iterator[str]:
    budgets = [d["spec"]["selector"]["matchLabels"] for d in documents if d["kind"] == "PodDisruptionBudget"]
    for document in documents:
        if document["kind"] in _LONG_RUNNING:
            labels = document["spec"]["template"]["metadata"]["labels"]
            if not any(wanted.items() <= labels.items() for wanted in budgets):
                yield f"{_name(document)}: expected a PodDisruptionBudget"
    namespaces = [document for document in documents if document["kind"] == "Namespace"]
    enforced = "pod-security.kubernetes.io/enforce"
    if not namespaces or any(n["metadata"].get("labels", {}).get(enforced) != "restricted" for n in namespaces):
        yield "expected a Namespace that enforces the restricted profile"


def _network_is_closed(documents: list[Document]) -> Iterator[str]:
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    closed = [p for p in policies if not p["podSelector"] and set(p["policyTypes"]) == {"Ingress", "Egress"}]
    if not any("ingress" not in policy and "egress" not in policy for policy in closed):
        yield "expected a default-deny NetworkPolicy for all pods, both ways"
    for policy in policies:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy.get(direction, []):
                if not rule.get(peers) or not rule.get("ports") or {} in rule[peers]:
                    yield f"a NetworkPolicy's {direction} names no peer or no port"


def _internet_is_without_neighbors(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        rules = document["spec"].get("egress", []) if document["kind"] == "NetworkPolicy" else []
        for block in (peer["ipBlock"] for rule in rules for peer in rule.get("to", []) if "ipBlock" in peer):
            if block["cidr"].endswith("/0") and not set(block.get("except", [])) >= PRIVATE_RANGES:
                yield f"{_name(document)}: expected {block['cidr']} without {sorted(PRIVATE_RANGES)}"


def _bus_is_restarted_when_stuck(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        for container in containers_of(document):
            if container["image"].startswith("nats:"):
                probe = container.get("livenessProbe", {}).get("httpGet", {}).get("path")
                if probe != "/healthz":
                    yield f"{_name(document)}: expected the whole health check to restart it, received {probe}"


def _bus_syncs_always(documents: list[Document]) -> Iterator[str]:
    maps = [document.get("data", {}) for document in documents if document["kind"] == "ConfigMap"]
    configs = [data["nats.conf"] for data in maps if "nats.conf" in data]
    if not configs or not all(re.search(r"^\s*sync_interval:\s*always\s*$", text, re.M) for text in configs):
        yield "expected `sync_interval: always` in nats.conf: acknowledged means on disk"


def _unpinned(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        for container in containers_of(document):
            image = container["image"]
            if OWN_IMAGES.search(image) and not re.search(r"@sha256:[0-9a-f]{64}$", image):
                yield f"{_name(document)}: expected a digest, received {image}"


RULES: tuple[Callable[[Document], Iterator[str]], ...] = (
    _restricted_pod,
    _restricted_containers,
    _bounded,
    _probed,
    _named_images,
    _selects_itself,
    _no_secret_literals,
)
CLUSTER_RULES: tuple[Callable[[list[Document]], Iterator[str]], ...] = (
    _selectors_find_pods,
    _references_resolve,
    _every_service_is_protected,
    _network_is_closed,
    _internet_is_without_neighbors,
    _bus_is_restarted_when_stuck,
    _bus_syncs_always,
)
