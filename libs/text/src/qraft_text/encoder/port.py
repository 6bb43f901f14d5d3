"""What the reduction needs of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

# Half precision is what is kept and what everything reads, so that a vector out of the cache is the vector itself; the
# rounding, 5e-4 of a component, is a tenth of what int8 costs.
TextVectors = npt.NDArray[np.float16]


class Encoder(Protocol):
    """
    A fixed function of one text. The vector of a text never depends on which other texts are encoded with it: what is
    known later would leak through the batch otherwise.
    """

    @property
    def sha256(self) -> str:
        """Return the name of the function: weights, graph, tokenizer and whatever else decides the vector."""
        ...

    @property
    def n_dims(self) -> int:
        """Return the length of a vector."""
        ...

    @property
    def is_degraded(self) -> bool:
        """Return whether this is the fallback without weights."""
        ...

    def encode(self, texts: Sequence[str], *, n_threads: int = 1) -> TextVectors:
        """Return one vector a text, (n_texts, n_dims), of length 1 (an empty text may be 0); the same bits for any
        number of threads."""
        ...
