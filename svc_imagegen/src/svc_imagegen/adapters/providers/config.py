"""
The providers file: TOML to frozen values, with errors that name the line, what was expected and what came.

Keys are never in it, only the names of the environment variables that hold them.

    [[provider]]
    id = "openai"
    kind = "openai"
    base_url = "https://api.openai.com/v1"
    api_key_env = "OPENAI_API_KEY"
    n_concurrent = 8
    models = [{name = "gpt-image-2", unsupports = ["output_format:webp"]}]

    [[provider]]
    id = "node"
    kind = "vllm_omni"
    base_url = "http://10.0.0.7:8000/v1"
    allow_private = true
    models = [{name = "qwen-image", upstream = "Qwen/Qwen-Image", supports = ["edit"]}]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from svc_imagegen.adapters.guard import AddressPolicy, Forbidden

Kind = Literal[
    "openai", "localai", "vllm_omni", "sglang", "xai", "ark", "minimax", "together", "siliconflow", "gemini", "azure",
    "simulated",
]  # fmt: skip
# With this a job's attempt ends within the service's own 10 to 12 minutes.
_TIMEOUT_S: Final = 600.0
_PICTURE_BYTES_MAX: Final = 33_554_432  # a 4K PNG of noise has 25 MB
_FILE_BYTES_MAX: Final = 1_048_576
_N_PROVIDERS_MAX: Final = 64

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3_600)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,200}$")]
Feature = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]+(:[A-Za-z0-9_]+)?$")]


class ConfigError(ValueError):
    """The providers file cannot be used; the text says where and why."""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model. upstream: its name at the provider, "" = the same. supports, unsupports: what a person declares."""

    name: Name
    upstream: str = ""
    supports: tuple[Feature, ...] = ()
    unsupports: tuple[Feature, ...] = ()

    @property
    def upstream_name(self) -> str:
        """Return the name that the provider knows."""
        return self.upstream or self.name


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One provider as configured.

    field_map: our field name → the provider's, "" = never send it. quality_map, size_map: our value → the provider's,
    "" = leave the field out. cost_field: dotted path in the answer, cost_header: header, that tell the cost in
    cost_unit. picture_networks, picture_ports: where, beyond public addresses, the pictures that an answer names by URL
    may lie, such as the own object store. task_path: where `{id}` of an asynchronous relay's task is asked for, below
    base_url.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")]
    kind: Kind
    base_url: str = ""
    models: tuple[ModelConfig, ...] = ()
    api_key_env: str = ""
    timeout_s: Seconds = _TIMEOUT_S
    connect_timeout_s: Seconds = 10.0
    gap_timeout_s: Seconds = 60.0
    download_timeout_s: Seconds = 60.0
    n_concurrent: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 4
    allow_private: bool = False
    field_map: dict[str, str] = {}
    quality_map: dict[str, str] = {}
    size_map: dict[str, str] = {}
    headers: dict[str, str] = {}
    response_format: Literal["", "b64_json", "url"] = ""
    image_field: Literal["auto", "image", "image[]"] = "auto"
    edit_body: Literal["multipart", "json"] = "multipart"
    cost_field: str = ""
    cost_header: str = ""
    cost_unit: Literal["usd", "cent", "microusd"] = "usd"
    task_path: str = ""
    api_version: str = ""
    picture_networks: tuple[str, ...] = ()
    picture_ports: tuple[Annotated[int, msgspec.Meta(ge=1, le=65_535)], ...] = (80, 443)
    picture_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=268_435_456)] = _PICTURE_BYTES_MAX

    def model(self, name: str) -> ModelConfig | None:
        """Return a model by the name that clients use."""
        return next((it for it in self.models if it.name == name), None)


class ProvidersFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. simulated False: the simulated provider is not offered."""

    simulated: bool = True
    provider: tuple[ProviderConfig, ...] = ()


def load_config(path: Path | None) -> ProvidersFile:
    """
    Return the configuration of a file, or that of no file: the simulated provider only.

    Raises:
        ConfigError: if the file cannot be read or used.
    """
    if path is None:
        return ProvidersFile()
    text = _read(path)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from error
    try:
        found = msgspec.convert(raw, ProvidersFile)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(path, text, raw, str(error))) from error
    _check(path, text, found)
    return found


def read_api_key(config: ProviderConfig, environ: Mapping[str, str]) -> str:
    """
    Return the provider's key, "" if it has none.

    Raises:
        ConfigError: if the variable is not set or does not hold a key.
    """
    if not config.api_key_env:
        return ""
    key = environ.get(config.api_key_env, "").strip()
    if not key:
        raise ConfigError(f"provider {config.id!r}: expected a key in ${config.api_key_env}, received nothing; set it")
    if not re.fullmatch(r"[\x21-\x7e]{1,4096}", key):
        raise ConfigError(
            f"provider {config.id!r}: expected ${config.api_key_env} to hold printable characters without spaces"
        )
    return key


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if len(data) > _FILE_BYTES_MAX:
            raise ConfigError(f"{path}: expected at most {_FILE_BYTES_MAX} bytes")
        return data.decode()
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable providers file, received {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8, received another encoding at byte {error.start}") from error


def _check(path: Path, text: str, found: ProvidersFile) -> None:
    if len(found.provider) > _N_PROVIDERS_MAX:
        raise ConfigError(f"{path}: expected at most {_N_PROVIDERS_MAX} providers, received {len(found.provider)}")
    seen: set[str] = set()
    for index, provider in enumerate(found.provider):
        problem = _duplicate(provider, seen) or _problem(provider)
        if problem is not None:
            key, message = problem
            raise ConfigError(f"{path}:{_line(text, index, key)}: provider {provider.id!r}, {key}: {message}")
        seen.add(provider.id)


def _duplicate(provider: ProviderConfig, seen: set[str]) -> tuple[str, str] | None:
    return ("id", "expected an id that no other provider has") if provider.id in seen else None


def _problem(provider: ProviderConfig) -> tuple[str, str] | None:
    """Return (key, what is wrong) of the first thing that is."""
    if provider.kind == "simulated":
        return ("base_url", "expected none for the simulated provider") if provider.base_url else None
    if not provider.models:
        return "models", "expected at least one model, received none"
    names = [it.name for it in provider.models]
    for model in provider.models:
        if names.count(model.name) > 1:
            return "models", f"expected each model once, received {model.name!r} twice"
        if both := sorted(set(model.supports) & set(model.unsupports)):
            return "models", f"expected {both[0]!r} of {model.name!r} in supports or unsupports, received it in both"
    if (message := _base_url_problem(provider)) is not None:
        return "base_url", message
    if (message := _networks_problem(provider)) is not None:
        return "picture_networks", message
    if provider.kind == "azure" and not provider.api_version:
        return "api_version", "expected an API version such as 2025-04-01-preview, received none"
    if provider.task_path and provider.task_path.count("{id}") != 1:
        return "task_path", f"expected a path with {{id}} once, received {provider.task_path!r}"
    for name, value in provider.headers.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name) or re.search(r"[^\x20-\x7e]", value):
            return "headers", f"expected a printable header, received {name!r}"
        if name.lower() in ("authorization", "api-key", "host", "content-type", "content-length"):
            return "headers", f"expected no {name}; keys come from api_key_env"
    return None


def _base_url_problem(provider: ProviderConfig) -> str | None:
    # The text may hold a password by mistake: it is never repeated in the message.
    try:
        url = AddressPolicy(ports=None, allow_private=provider.allow_private).check_url(provider.base_url)
    except Forbidden as error:
        hint = "" if provider.allow_private else "; a server of your own network needs allow_private = true"
        return f"{error.reason}{hint if 'private' in error.reason else ''}"
    if url.query_string or "#" in provider.base_url or "?" in provider.base_url:
        return "expected a URL without query and fragment"
    return None


def _networks_problem(provider: ProviderConfig) -> str | None:
    for text in provider.picture_networks:
        try:
            ip_network(text)
        except ValueError:
            return f"expected networks such as 10.1.2.0/24, received {text[:60]!r}"
    return None


def _explain(path: Path, text: str, raw: dict[str, Any], message: str) -> str:
    """Turn `Expected ..., got ... - at `$.provider[0].timeout_s`` into file, line and table."""
    what, _, where = message.partition(" - at `$")
    where = where.rstrip("`")
    match = re.match(r"\.provider\[(\d+)\]\.?(.*)", where)
    what = re.sub(r"^Expected", "expected", what).replace(", got", ", received").replace("`", "")
    if match is None:
        return f"{path}: {where.lstrip('.') or 'top level'}: {what}"
    index, rest = int(match[1]), match[2]
    unknown = re.search(r"unknown field (\w+)", what)
    key = (unknown[1] if unknown else re.split(r"[.\[]", rest)[0]) or "provider"
    value = raw["provider"][index].get(key) if isinstance(raw.get("provider"), list) else None
    # Only a value without parts is shown; base_url may hold a password by mistake.
    shown = f", received {value!r:.80}" if key != "base_url" and isinstance(value, str | int | float) else ""
    return f"{path}:{_line(text, index, key)}: [[provider]] number {index + 1}, {rest or key}: {what}{shown}"


def _line(text: str, index: int, key: str) -> int:
    """Return the line of a key in the nth [[provider]], or that of its table."""
    n_seen, table_line = -1, 1
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"\s*\[\[\s*provider\s*\]\]", line):
            n_seen += 1
            if n_seen > index:
                break
            table_line = number
        elif n_seen == index and re.match(rf"\s*(\[\[?\s*provider\s*\.\s*)?{re.escape(key)}\b", line):
            return number
    return table_line
