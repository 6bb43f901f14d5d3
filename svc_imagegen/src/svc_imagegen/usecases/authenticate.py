"""Who calls: an API key's text to its account and scopes. Keys hold 256 random bits and are stored as SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from qraft_runtime.clock import Clock
from svc_imagegen.ports import ApiKey, KeyStore

KEY_PREFIX: Final = "sk-qraft-"
WRITE: Final = "images:write"
READ: Final = "images:read"
ADMIN: Final = "admin"
SCOPES: Final = frozenset({WRITE, READ, ADMIN})
# A revoked key works at most this much longer: the price of no query a call.
CACHE_TTL_S: Final = 2.0
# Known and unknown keys have a cache each, so that guesses cannot push out the keys in use.
_N_CACHED_MAX: Final = 4_096
_KEY_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class _Known:
    key: ApiKey | None
    until_s: float


class Authenticate:
    """Look-up of keys with a short memory."""

    def __init__(self, keys: KeyStore, *, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._valid: dict[str, _Known] = {}
        self._unknown: dict[str, _Known] = {}

    async def __call__(self, text: str) -> ApiKey | None:
        """Return the key that this is the text of; None if there is none, or it was revoked."""
        if len(text) > _KEY_CHARS_MAX:
            return None
        sha256 = sha256_of_key(text)
        now_s = self._clock.monotonic()
        known = self._valid.get(sha256) or self._unknown.get(sha256)
        if known is not None and now_s < known.until_s:
            return known.key
        key = await self._keys.find(sha256)
        found = _Known(key if key is not None and key.revoked_at is None else None, now_s + CACHE_TTL_S)
        self._valid.pop(sha256, None)
        self._unknown.pop(sha256, None)
        cache = self._unknown if found.key is None else self._valid
        if len(cache) >= _N_CACHED_MAX:
            del cache[next(iter(cache))]
        cache[sha256] = found
        return found.key

    def forget(self) -> None:
        """Look every key up again: after a revocation by this process, it counts at once."""
        self._valid.clear()
        self._unknown.clear()


def new_key_text() -> str:
    """Return the text of a new key: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def sha256_of_key(text: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(text.encode()).hexdigest()
