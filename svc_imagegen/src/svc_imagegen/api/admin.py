"""What an administrator sees and changes: keys, providers, findings. No secret is ever shown a second time."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

from qraft_runtime.clock import Clock
from qraft_telemetry import logs
from svc_imagegen.api.fields import decode_object, take_exactly
from svc_imagegen.api.http import Answer, Call
from svc_imagegen.domain.capability import Capability, Support
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.ports import ApiKey, CapabilityStore, KeyStore, Provider
from svc_imagegen.usecases.authenticate import READ, WRITE, Authenticate, new_key_text, sha256_of_key
from svc_imagegen.usecases.gate import CapabilityGate

_BODY_BYTES_MAX: Final = 64 * 1024
_NO_STORE: Final = ((b"cache-control", b"no-store"),)
_ACCOUNT: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

Scope = Literal["images:write", "images:read", "admin"]
Account = Annotated[str, msgspec.Meta(pattern=_ACCOUNT)]


class NewKeyFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make. account_id: whose calls and credits it stands for."""

    account_id: Account
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=3)] = (WRITE, READ)


class KeyView(msgspec.Struct, frozen=True):
    """One key, without its text."""

    id: str
    account_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


class NewKeyView(msgspec.Struct, frozen=True):
    """A new key. text is shown this once and stored nowhere."""

    key: KeyView
    text: str


class KeyList(msgspec.Struct, frozen=True):
    """Keys, oldest first."""

    data: tuple[KeyView, ...]


class ProviderView(msgspec.Struct, frozen=True):
    """One configured provider. Its key is never shown."""

    id: str
    is_simulated: bool
    models: tuple[str, ...]


class ProviderList(msgspec.Struct, frozen=True):
    """Providers, in the order of the configuration."""

    data: tuple[ProviderView, ...]


class FindingFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person knows about a provider."""

    provider: Annotated[str, msgspec.Meta(min_length=1, max_length=31)]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    feature: Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,40}(:[A-Za-z0-9_]{1,40})?$")]
    support: Literal["supported", "unsupported", "unknown"]


class FindingList(msgspec.Struct, frozen=True):
    """The newest finding of each feature."""

    data: tuple[Capability, ...]


@dataclass(frozen=True, slots=True)
class AdminCalls:
    """The handlers."""

    keys: KeyStore
    providers: Sequence[Provider]
    capabilities: CapabilityStore
    authenticate: Authenticate
    gate: CapabilityGate
    clock: Clock

    async def create_key(self, call: Call) -> Answer:
        """`POST /api/keys`."""
        fields = take_exactly(NewKeyFields, await decode_object(await call.body(n_bytes_max=_BODY_BYTES_MAX)))
        text = new_key_text()
        key = ApiKey(
            key_id=f"key_{secrets.token_hex(8)}",
            account_id=fields.account_id,
            name=fields.name,
            scopes=frozenset(fields.scopes),
            created_at=self.clock.now(),
            revoked_at=None,
        )
        await self.keys.create(key, sha256_of_key(text))
        logs.get().info("key.created", key_id=key.key_id, account_id=key.account_id, by=call.key.key_id)
        return Answer(201, msgspec.json.encode(NewKeyView(_key_view(key), text)), _NO_STORE)

    async def list_keys(self, call: Call) -> Answer:
        """`GET /api/keys`."""
        account_id = call.query().get("account_id")
        if account_id is not None and not re.fullmatch(_ACCOUNT, account_id):
            message = "Expected account_id to be an account's id."
            raise CallRefused(Kind.INVALID, "invalid_value", message, param="account_id")
        keys = await self.keys.list_keys(account_id)
        return Answer(200, msgspec.json.encode(KeyList(tuple(map(_key_view, keys)))), _NO_STORE)

    async def revoke_key(self, call: Call) -> Answer:
        """`DELETE /api/keys/{id}`. Here it counts at once, in other processes within two seconds."""
        key_id = call.params["key_id"]
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key_id):
            raise _no_key()
        if not await self.keys.revoke(key_id, at=self.clock.now()):
            raise _no_key()
        self.authenticate.forget()
        logs.get().info("key.revoked", key_id=key_id, by=call.key.key_id)
        return Answer(204)

    async def list_providers(self, _call: Call) -> Answer:
        """`GET /api/providers`."""
        views = tuple(ProviderView(it.provider_id, it.is_simulated, it.models()) for it in self.providers)
        return Answer(200, msgspec.json.encode(ProviderList(views)), _NO_STORE)

    async def list_findings(self, _call: Call) -> Answer:
        """`GET /api/capabilities`."""
        found = await self.capabilities.list_all()
        return Answer(200, msgspec.json.encode(FindingList(tuple(found))), _NO_STORE)

    async def declare(self, call: Call) -> Answer:
        """`POST /api/capabilities`: what a person says counts until a newer finding."""
        fields = take_exactly(FindingFields, await decode_object(await call.body(n_bytes_max=_BODY_BYTES_MAX)))
        provider = next((it for it in self.providers if it.provider_id == fields.provider), None)
        if provider is None or fields.model not in provider.models():
            message = "There is no such model of such a provider; GET /api/providers lists them."
            raise CallRefused(Kind.MISSING, "model_not_found", message, param="model")
        finding = Capability(
            provider=fields.provider,
            model=fields.model,
            feature=fields.feature,
            support=Support(fields.support),
            evidence=f"declared by {call.key.key_id}",
            found_at=self.clock.now(),
        )
        await self.capabilities.record(finding)
        self.gate.forget()
        return Answer(201, msgspec.json.encode(finding), _NO_STORE)


def _key_view(key: ApiKey) -> KeyView:
    return KeyView(key.key_id, key.account_id, key.name, tuple(sorted(key.scopes)), key.created_at, key.revoked_at)


def _no_key() -> CallRefused:
    return CallRefused(Kind.MISSING, "key_not_found", "There is no such key, or it is revoked already.")
