"""
Vectors that were computed once, on disk: `<folder>/<encoder>/<number>-<hash>.npy`, rows of (key of a text, vector).

A file is written whole, never changed, and named by the hash of its content. The oldest go when there are too many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qraft_contracts.outcomes import Malformed
from qraft_store.files import write_whole
from qraft_text.encoder.port import Encoder, TextVectors

# 2 million vectors of MiniLM are 1.6 GB: three months of 20,000 posts a day.
N_VECTORS_MAX: Final = 2_000_000
# Texts encoded before they are written: at 500 a second what an interruption costs is under a minute.
N_CHUNK: Final = 20_000
_KEY_BYTES: Final = 16


class CachedEncoder:
    """
    An encoder that remembers. One process writes a folder at a time; a second would at worst compute twice.

    n_encoded, n_found: texts that were computed and that were there, since this was opened.
    """

    def __init__(self, encoder: Encoder, folder: Path, *, n_vectors_max: int = N_VECTORS_MAX) -> None:
        self._encoder = encoder
        self._folder = folder / encoder.sha256[:16]
        self._n_max = n_vectors_max
        self._row_type = np.dtype([("key", f"V{_KEY_BYTES}"), ("vector", "<f2", (encoder.n_dims,))])
        self._chunks: list[tuple[Path, npt.NDArray[Any]]] = []
        self._places: dict[bytes, tuple[npt.NDArray[Any], int]] = {}
        self.sha256, self.n_dims, self.is_degraded = encoder.sha256, encoder.n_dims, encoder.is_degraded
        self.n_encoded = self.n_found = 0
        for path in sorted(self._folder.glob("*.npy")):
            self._keep(path, self._read(path))

    def encode(self, texts: Sequence[str], *, n_threads: int = 1) -> TextVectors:
        """
        Return the vectors as the encoder does, bit for bit; what is new is stored.

        Raises:
            Transient: if the folder cannot be written.
        """
        keys = [hashlib.sha256(text.encode()).digest()[:_KEY_BYTES] for text in texts]
        vectors = np.empty((len(texts), self.n_dims), np.float16)
        wanted: dict[bytes, str] = {}
        places: dict[bytes, list[int]] = {}
        for i, (key, text) in enumerate(zip(keys, texts, strict=True)):
            found = self._places.get(key)
            if found is not None:
                vectors[i] = found[0]["vector"][found[1]]
                self.n_found += 1
            else:
                wanted[key] = text
                places.setdefault(key, []).append(i)
        new = list(wanted)
        for start in range(0, len(new), N_CHUNK):
            part = new[start : start + N_CHUNK]
            made = self._encoder.encode([wanted[key] for key in part], n_threads=n_threads)
            for key, vector in zip(part, made, strict=True):
                vectors[places[key]] = vector
            self._store(part, made)
            self.n_encoded += len(part)
        return vectors

    def _store(self, keys: Sequence[bytes], made: TextVectors) -> None:
        rows = np.empty(len(keys), self._row_type)
        rows["key"] = np.array(keys, f"V{_KEY_BYTES}")
        rows["vector"] = made
        number = 1 + max((int(path.name.split("-")[0]) for path, _ in self._chunks), default=0)
        path = self._folder / f"{number:08d}-{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.npy"
        write_whole(path, lambda file: np.save(file, rows))
        self._keep(path, rows)
        while len(self._chunks) > 1 and sum(len(chunk) for _, chunk in self._chunks) > self._n_max:
            oldest, gone = self._chunks.pop(0)
            for key in gone["key"]:
                if self._places.get(key.tobytes(), (None, 0))[0] is gone:
                    del self._places[key.tobytes()]
            oldest.unlink(missing_ok=True)

    def _keep(self, path: Path, rows: npt.NDArray[Any]) -> None:
        self._chunks.append((path, rows))
        self._places.update({key.tobytes(): (rows, i) for i, key in enumerate(rows["key"])})

    def _read(self, path: Path) -> npt.NDArray[Any]:
        try:
            rows: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise Malformed("damaged_cache", f"{path}: {error}: delete it, its vectors are computed anew") from error
        named = path.stem.split("-")[1]
        if rows.dtype != self._row_type or hashlib.sha256(rows.tobytes()).hexdigest()[:16] != named:
            raise Malformed("damaged_cache", f"{path} is not what its name says: delete it, its vectors are computed "
                            "anew")  # fmt: skip
        return rows
