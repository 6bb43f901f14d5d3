"""From the providers file to providers: the one place that knows every kind."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from qraft_runtime.clock import Clock
from svc_imagegen.adapters.guard import Resolve
from svc_imagegen.adapters.providers.ark import ArkDialect
from svc_imagegen.adapters.providers.azure import AzureDialect
from svc_imagegen.adapters.providers.config import ProviderConfig, load_config, read_api_key
from svc_imagegen.adapters.providers.dialect import Dialect
from svc_imagegen.adapters.providers.gemini import GeminiDialect
from svc_imagegen.adapters.providers.localai import LocalAIDialect
from svc_imagegen.adapters.providers.minimax import MiniMaxDialect
from svc_imagegen.adapters.providers.openai import OpenAIDialect
from svc_imagegen.adapters.providers.provider import HttpProvider
from svc_imagegen.adapters.providers.sglang import SGLangDialect
from svc_imagegen.adapters.providers.siliconflow import SiliconFlowDialect
from svc_imagegen.adapters.providers.simulated import PROVIDER_ID as SIMULATED
from svc_imagegen.adapters.providers.simulated import SimulatedProvider
from svc_imagegen.adapters.providers.together import TogetherDialect
from svc_imagegen.adapters.providers.upstream import Credential, Upstream
from svc_imagegen.adapters.providers.vllm_omni import VllmOmniDialect
from svc_imagegen.adapters.providers.xai import XaiDialect
from svc_imagegen.ports import Provider


class _MakeDialect(Protocol):
    def __call__(self, config: ProviderConfig) -> Dialect: ...


DIALECTS: Final[dict[str, _MakeDialect]] = {
    "ark": ArkDialect,
    "azure": AzureDialect,
    "gemini": GeminiDialect,
    "localai": LocalAIDialect,
    "minimax": MiniMaxDialect,
    "openai": OpenAIDialect,
    "sglang": SGLangDialect,
    "siliconflow": SiliconFlowDialect,
    "together": TogetherDialect,
    "vllm_omni": VllmOmniDialect,
    "xai": XaiDialect,
}


def build_providers(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    resolve: Resolve,
    clock: Clock,
    tls: ssl.SSLContext | None = None,
) -> dict[str, Provider]:
    """
    Return the configured providers by id, in the order of the file, the simulated one last.

    environ holds the keys; tls None: the system's certificates.

    Raises:
        ConfigError: if the file or a key cannot be used.
    """
    config = load_config(path)
    providers: dict[str, Provider] = {}
    for one in config.provider:
        if one.kind == "simulated":
            models = tuple(it.name for it in one.models)
            providers[one.id] = (
                SimulatedProvider(provider_id=one.id, models=models)
                if models
                else SimulatedProvider(provider_id=one.id)
            )
        else:
            providers[one.id] = build_provider(one, environ=environ, resolve=resolve, clock=clock, tls=tls)
    if config.simulated and SIMULATED not in providers:
        providers[SIMULATED] = SimulatedProvider()
    return providers


def build_provider(
    config: ProviderConfig,
    *,
    environ: Mapping[str, str],
    resolve: Resolve,
    clock: Clock,
    tls: ssl.SSLContext | None = None,
) -> Provider:
    """Return one provider over HTTP; raises ConfigError if its key is not there."""
    key = read_api_key(config, environ)
    credential = Credential(key, header="api-key", prefix="") if config.kind == "azure" else Credential(key)
    upstream = Upstream(config, credential, resolve=resolve, tls=tls)
    return HttpProvider(upstream, DIALECTS[config.kind](config), clock=clock)
