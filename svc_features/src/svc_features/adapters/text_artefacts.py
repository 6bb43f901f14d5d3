"""Artefacts of texts: the encoder of this home with its cache, reductions and manifests by key."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from qraft_contracts.outcomes import Refused
from qraft_store.artefacts.port import ArtefactStore
from qraft_text.encoder import CachedEncoder, Encoder, HashedEncoder
from qraft_text.encoder.minilm import open_encoder
from qraft_text.pipeline import TextManifest
from qraft_text.reduction import Reduction, decode_reduction
from qraft_text.sentiment import Sentiment


def encoder_of(home: Path, *, name: str) -> CachedEncoder:
    """
    Return the encoder with its cache under the home; without weights the fallback, said on standard error.

    Raises:
        Malformed: if the weights or the built graph are not what they should be.
    """
    found: Encoder | None = open_encoder(home / "models" / "text") if name == "minilm" else None
    if found is None:
        if name == "minilm":
            sys.stderr.write(
                "no weights installed (extra qraft-text[encoder]): hashed words instead, marked degraded\n"
            )
        found = HashedEncoder(Sentiment())
    return CachedEncoder(found, home / "cache" / "text")


async def save_reduction(artefacts: ArtefactStore, reduction: Reduction) -> str:
    """Store a reduction and return its key."""
    key = f"text/reductions/{reduction.sha256[:16]}.json"
    await artefacts.put(key, reduction.encode())
    return key


async def load_reduction(artefacts: ArtefactStore, key: str) -> Reduction:
    """
    Return a stored reduction.

    Raises:
        Refused: if there is none under the key.
    """
    try:
        reduction = decode_reduction(await artefacts.get(key))
    except (KeyError, ValueError) as error:
        raise Refused("no_reduction", f"{key}: {error}; fit one: qraft features text fit") from error
    if reduction.sha256[:16] not in key:
        raise Refused("changed_reduction", f"expected {key}, received {reduction.sha256}: the artefact was changed")
    return reduction


async def save_manifest(artefacts: ArtefactStore, manifest: TextManifest) -> str:
    """Store a manifest and return its key; the same computation again has the same."""
    data = manifest.encode()
    key = f"text/manifests/{hashlib.sha256(data).hexdigest()[:16]}.json"
    await artefacts.put(key, data)
    return key


async def load(artefacts: ArtefactStore, key: str) -> bytes:
    """
    Return any stored artefact of texts.

    Raises:
        Refused: if there is none under the key.
    """
    try:
        return await artefacts.get(key)
    except (KeyError, ValueError) as error:
        raise Refused("no_artefact", f"{key}: {error}") from error
