"""What the tests of providers share: quick time limits, requests, a resolver of their own."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from qraft_runtime.clock import FixedClock
from svc_imagegen.adapters.providers.build import build_provider
from svc_imagegen.adapters.providers.config import ProviderConfig
from svc_imagegen.domain.request import ImageRequest, Operation, Reference
from svc_imagegen.ports import Provider, ReferenceBytes

KEY = "sk-canary-0123456789abcdef"
NOW = datetime(2026, 11, 21, 12, 0, 7, tzinfo=UTC)
TIMEOUT_S = 1.0


class StubResolve:
    """A name server of tests: answers in turn, the last one for ever; counts."""

    def __init__(self, names: Mapping[str, Sequence[Sequence[str]]] | None = None) -> None:
        self.names = dict(names or {})
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        n_before = self.asked.count(host)
        self.asked.append(host)
        answers = self.names.get(host)
        if not answers:
            raise OSError(f"no such host {host}")
        return answers[min(n_before, len(answers) - 1)]


def make_provider(
    base_url: str,
    *,
    kind: str = "openai",
    model: str = "m",
    resolve: StubResolve | None = None,
    tls: ssl.SSLContext | None = None,
    key: str = KEY,
    **more: object,
) -> Provider:
    """Return a provider with a test's time limits."""
    fields: dict[str, object] = {
        "id": "p",
        "kind": kind,
        "base_url": base_url,
        "api_key_env": "KEY",
        "timeout_s": TIMEOUT_S,
        "connect_timeout_s": 0.4,
        "gap_timeout_s": 0.4,
        "download_timeout_s": TIMEOUT_S,
        "allow_private": True,
        "picture_bytes_max": 1_048_576,
        "models": [{"name": model}],
    }
    config = msgspec.convert(fields | more, ProviderConfig)
    return build_provider(
        config, environ={"KEY": key}, resolve=resolve or StubResolve(), clock=FixedClock(NOW), tls=tls
    )


def generation(prompt: str = "a red fox", **more: object) -> ImageRequest:
    return msgspec.convert({"operation": "generation", "model": "m", "prompt": prompt} | more, ImageRequest)


def edit(*references: ReferenceBytes, prompt: str = "make it blue", **more: object) -> ImageRequest:
    fields: dict[str, object] = {"operation": Operation.EDIT, "model": "m", "prompt": prompt}
    request = msgspec.convert(fields | more, ImageRequest)
    return msgspec.structs.replace(request, references=tuple(it.reference for it in references))


def reference(data: bytes, *, role: str = "image", media_type: str = "image/png") -> ReferenceBytes:
    sha256 = hashlib.sha256(data).hexdigest()
    return ReferenceBytes(Reference(f"references/{sha256}", sha256, media_type, 8, 8, len(data), role=role), data)
