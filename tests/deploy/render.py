"""Kubernetes documents as a cluster would get them, without a cluster."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
TARGETS = ("base", "overlays/dev", "overlays/prod")


def render(target: str) -> list[dict[str, Any]]:
    """Return the documents of `kubectl kustomize`; where kubectl is missing, the base files' alone, with a warning."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        warnings.warn("KUBECTL MISSING: no overlay was rendered, only k8s/base is checked", stacklevel=2)
        return _plain_base()
    command = [kubectl, "kustomize", str(K8S / target)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return _load(run.stdout)


def with_gpu(folder: Path) -> list[dict[str, Any]] | None:
    """Return the production overlay with the gpu component, None where kubectl is missing."""
    if shutil.which("kubectl") is None:
        return None
    shutil.copytree(K8S, folder / "k8s")
    overlay = folder / "k8s" / "overlays" / "gpu"
    overlay.mkdir()
    content = {"resources": ["../prod"], "components": ["../../components/gpu"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))
    command = ["kubectl", "kustomize", str(overlay)]
    return _load(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)


def _plain_base() -> list[dict[str, Any]]:
    kustomization = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())
    documents = [d for name in kustomization["resources"] for d in _load((K8S / "base" / name).read_text())]
    for made in kustomization["configMapGenerator"]:
        data = {name: (K8S / "base" / name).read_text() for name in made["files"]}
        documents.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})
    return documents


def _load(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]
