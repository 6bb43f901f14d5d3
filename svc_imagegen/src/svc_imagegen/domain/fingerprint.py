"""What makes two calls the same call: by this a client's own retry finds its job and a key's reuse is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from svc_imagegen.domain.request import ImageRequest

_encoder = msgspec.json.Encoder(order="deterministic")


def fingerprint(
    request: ImageRequest, *, account_id: str, provider: str, uploads: Sequence[tuple[str, str]] = ()
) -> str:
    """
    Return the SHA-256, in hex, of everything that decides which pictures are made and who pays.

    How the answer is presented (streamed, as URL or base64) is left out on purpose: it does not make other pictures.

    Args:
        request: without references; those are named by their uploads, so that a retry costs no second re-encoding.
        uploads: (role, SHA-256 of the bytes as sent or of the URL), in the order of the call.
    """
    assert not request.references, "references are fingerprinted as uploaded"
    return hashlib.sha256(_encoder.encode((account_id, provider, request, tuple(uploads)))).hexdigest()
