"""What a text is by itself: clean, normal form, template, shingles. Functions of one text; no other is looked at."""

from __future__ import annotations

import html
import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_LINK: Final = re.compile(r"(?:https?://|www\.|pic\.twitter\.com/|t\.co/)\S+", re.I)
_MENTION: Final = re.compile(r"(?<!\w)@\w+")
_TAG: Final = re.compile(r"(?<!\w)[#$][^\W\d_]\w*")
_WORD: Final = re.compile(r"[^\W_]+")
_SPACE: Final = re.compile(r"\s+")
_DIGITS: Final = re.compile(r"\d[\d.,]*")
# Longer texts are cut: a summary says what it says in its first lines, and the encoder reads 128 tokens.
N_CHARS_MAX: Final = 2_000
_SHINGLE_WORDS: Final = 3
N_HASHES: Final = 32
# 8 bands of 4 hashes: texts that share 0.8 of their shingles share a band in 98 of 100 cases.
N_BANDS: Final = 8
_MIX: Final = np.uint64(0xBF58476D1CE4E5B9)  # of Steele's splitmix64


@dataclass(frozen=True, slots=True)
class Traits:
    """
    One row a text.

    clean: what is scored and encoded: no links, no mentions, HTML entities as characters. normal, template: CRC pairs
    of the words alone, and of the words with numbers and tags made equal. n_words, n_tags, has_link, latin_frac (of
    the letters; 1 without letters). shingles: hashes of three words in a row. signature: (n_texts, N_HASHES), MinHash.
    bands: of each text N_BANDS codes; texts that are alike have one of them in common.
    """

    clean: tuple[str, ...]
    normal: tuple[int, ...]
    template: tuple[int, ...]
    n_words: npt.NDArray[np.int64]
    n_tags: npt.NDArray[np.int64]
    has_link: npt.NDArray[np.bool_]
    latin_frac: npt.NDArray[np.float64]
    shingles: tuple[frozenset[int], ...]
    signature: npt.NDArray[np.uint64]
    bands: tuple[tuple[int, ...], ...]


def traits_of(texts: Sequence[str]) -> Traits:
    """Return the traits of each text."""
    rows = [_traits(text[:N_CHARS_MAX]) for text in texts]
    shingles = tuple(row[7] for row in rows)
    signature = _signatures(shingles)
    return Traits(
        clean=tuple(row[0] for row in rows),
        normal=tuple(row[1] for row in rows),
        template=tuple(row[2] for row in rows),
        n_words=np.array([row[3] for row in rows], np.int64),
        n_tags=np.array([row[4] for row in rows], np.int64),
        has_link=np.array([row[5] for row in rows], np.bool_),
        latin_frac=np.array([row[6] for row in rows], np.float64),
        shingles=shingles,
        signature=signature,
        bands=_bands(signature),
    )


def _traits(raw: str) -> tuple[str, int, int, int, int, bool, float, frozenset[int]]:
    text = html.unescape(raw)
    without_links = _LINK.sub(" ", text)
    clean = _SPACE.sub(" ", _MENTION.sub(" ", without_links)).strip()
    lower = clean.lower()
    words = _WORD.findall(lower)
    # Tags and numbers made equal: "50 $ to one of you, $BTC" is "60 $ to one of you, $ETH".
    template = _WORD.findall(_DIGITS.sub("0", _TAG.sub("$", lower)))
    return (
        clean,
        _code(words),
        _code(template),
        len(words),
        len(_TAG.findall(lower)),
        len(without_links) != len(text),
        _latin_frac(clean),
        _shingles(words),
    )


def _code(words: Sequence[str]) -> int:
    """Return 64 bits that name the words: two CRCs of different beginnings, for 10 million texts collide in one."""
    data = " ".join(words).encode()
    return zlib.crc32(data) << 32 | zlib.crc32(data[::2] + data)


def _latin_frac(text: str) -> float:
    if text.isascii():
        return 1.0
    letters = [char for char in text if char.isalpha()]
    n_latin = sum(char.isascii() or unicodedata.name(char, "").startswith("LATIN") for char in letters)
    return n_latin / len(letters) if letters else 1.0


def _shingles(words: Sequence[str]) -> frozenset[int]:
    n = min(_SHINGLE_WORDS, len(words))
    if n == 0:
        return frozenset()
    return frozenset(zlib.crc32(" ".join(words[i : i + n]).encode()) for i in range(len(words) - n + 1))


def _signatures(shingles: Sequence[frozenset[int]]) -> npt.NDArray[np.uint64]:
    """
    Return MinHash signatures; texts without words have the largest number everywhere.

    Source: Broder, On the resemblance and containment of documents (1997).
    """
    rng = np.random.default_rng(20_971)
    factor = rng.integers(0, 1 << 63, N_HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offset = rng.integers(0, 1 << 63, N_HASHES, dtype=np.uint64)
    found = np.full((len(shingles), N_HASHES), np.iinfo(np.uint64).max, np.uint64)
    sizes = np.array([len(own) for own in shingles], np.int64)
    has_words = np.flatnonzero(sizes)
    if has_words.size == 0:
        return found
    flat = np.fromiter((code for own in shingles for code in own), np.uint64, int(sizes.sum()))
    owner = np.repeat(np.arange(has_words.size), sizes[has_words])
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[: owner.size - 1]])
    for h in range(N_HASHES):
        # 64 bits that wrap, mixed once: a product without wrapping leaves the order of the codes nearly as it was.
        hashed = (flat + offset[h]) * factor[h]
        hashed = (hashed ^ (hashed >> np.uint64(29))) * _MIX
        hashed ^= hashed >> np.uint64(32)
        found[has_words, h] = np.minimum.reduceat(hashed, starts)
    return found


def _bands(signature: npt.NDArray[np.uint64]) -> tuple[tuple[int, ...], ...]:
    """Return one code a band, of its hashes and its number; whoever finds two alike compares their shingles."""
    parts = signature.reshape(-1, N_BANDS, N_HASHES // N_BANDS)
    code = np.broadcast_to(np.arange(1, N_BANDS + 1, dtype=np.uint64), parts.shape[:2]) * _MIX
    for i in range(parts.shape[2]):
        code = (code ^ parts[:, :, i]) * _MIX
        code = code ^ (code >> np.uint64(31))
    return tuple(tuple(row) for row in code.tolist())
