"""
From an encoder's vector to a few numbers: cosines with the anchors, and principal components fitted on a training
window alone. An artefact: named by its bytes, and refusing texts of another encoder or of a time before its fit.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from qraft_quant.align import micros
from qraft_text.anchors import ANCHORS, anchor_axes, anchors_sha256
from qraft_text.encoder.port import Encoder, TextVectors

FORMAT: Final = "text-reduction/1"
N_COMPONENTS: Final = 16
# Four columns an anchor and one a component: 64 columns a tower, and no more.
N_COMPONENTS_MAX: Final = 16
# Below ten posts a component the components are those of the sample.
N_POSTS_MIN: Final = 10 * N_COMPONENTS
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class TowerReduction(msgspec.Struct, frozen=True):
    """
    The components of one tower. center: (n_dims,), components: (n_components, n_dims), both float32 in base64, little
    end first; variance_frac: of each component, of the training window's variance; n_posts: that were fitted on.
    """

    n_posts: int
    center: str
    components: str
    variance_frac: tuple[float, ...]


class Reduction(msgspec.Struct, frozen=True):
    """
    The fitted whole. encoder_sha256 and anchors_sha256 name what it belongs to; axes: of the anchors, float32 in
    base64. fitted_after_us < known_at <= fitted_until_us: the training window. towers: those with posts enough in it.
    sources: what was read, as kind/market/version.
    """

    format: str
    encoder_sha256: str
    is_degraded: bool
    n_dims: int
    n_components: int
    anchors_sha256: str
    anchors: tuple[str, ...]
    axes: str
    fitted_after_us: int
    fitted_until_us: int
    filters_sha256: str
    sources: tuple[str, ...]
    towers: dict[str, TowerReduction]

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the canonical bytes."""
        return hashlib.sha256(self.encode()).hexdigest()

    @property
    def n_latents(self) -> int:
        """Return how many numbers a text becomes: anchors first, then components."""
        return len(self.anchors) + self.n_components

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return msgspec.json.format(_ENCODER.encode(self), indent=1) + b"\n"

    def require_encoder(self, encoder: Encoder) -> None:
        """
        Check that vectors of this encoder may be reduced.

        Raises:
            ValueError: if the reduction was fitted on another encoder or other anchors.
        """
        if encoder.sha256 != self.encoder_sha256:
            raise ValueError(f"expected vectors of the encoder {self.encoder_sha256[:16]}, received those of "
                             f"{encoder.sha256[:16]}: fit a reduction of this encoder")  # fmt: skip
        if self.anchors_sha256 != anchors_sha256():
            raise ValueError(f"expected the anchors {self.anchors_sha256[:16]}, this version has "
                             f"{anchors_sha256()[:16]}: fit anew")  # fmt: skip

    def require_later(self, at: npt.NDArray[Any], *, in_sample: bool) -> None:
        """
        Check that nothing is said of a time at which the reduction was not known.

        Raises:
            ValueError: if a time is before the end of the fit without in_sample.
        """
        times = micros(at, "at")
        if not in_sample and times.size and int(times.min()) < self.fitted_until_us:
            raise ValueError(f"expected times from {self.fitted_until_us} on, the end of the fit, received "
                             f"{int(times.min())}: what was fitted on later posts was not known then (in_sample = the "
                             "training rows themselves)")  # fmt: skip

    def project(self, vectors: TextVectors, tower: str) -> npt.NDArray[np.float32]:
        """
        Return the latents of texts, (n_texts, n_latents): a function of each vector alone, bit for bit.

        Raises:
            KeyError: if the tower had too few posts in the training window.
        """
        own = self.towers[tower]
        axes = _floats(self.axes).reshape(len(self.anchors), self.n_dims)
        components = _floats(own.components).reshape(self.n_components, self.n_dims)
        matrix = np.concatenate([axes, components]).astype(np.float64)
        shift = np.concatenate([np.zeros(len(axes)), components.astype(np.float64) @ _floats(own.center)])
        latents = np.empty((len(vectors), self.n_latents), np.float32)
        # Row by row: in a product of matrices the last bits of a row depend on how many rows there are.
        with threadpool_limits(limits=1):
            for row, vector in zip(latents, vectors, strict=True):
                row[:] = matrix @ vector.astype(np.float64) - shift
        return latents


def fit_reduction(
    vectors: dict[str, TextVectors],
    known_at: dict[str, npt.NDArray[Any]],
    *,
    encoder: Encoder,
    after_us: int,
    until_us: int,
    filters_sha256: str,
    sources: tuple[str, ...] = (),
    n_components: int = N_COMPONENTS,
) -> Reduction:
    """
    Fit on the posts with after_us < known_at <= until_us of each tower, and on nothing else.

    Args:
        vectors: by tower, (n_posts, n_dims), of posts that count.
        known_at: by tower, (n_posts,), microseconds.
        encoder: that the vectors came from.

    Raises:
        ValueError: if no tower has N_POSTS_MIN posts in the window, or n_components is out of range.
    """
    if not 1 <= n_components <= N_COMPONENTS_MAX:
        raise ValueError(f"n_components: expected 1 to {N_COMPONENTS_MAX}, received {n_components}")
    towers, n_seen = {}, {}
    for tower, rows in vectors.items():
        times = micros(known_at[tower], "known_at")
        own = rows[(times > after_us) & (times <= until_us)]
        n_seen[tower] = len(own)
        if len(own) >= N_POSTS_MIN:
            towers[tower] = _fit(own.astype(np.float64), n_components)
    if not towers:
        raise ValueError(f"expected at least {N_POSTS_MIN} posts that count of a tower in the training window, "
                         f"received {n_seen}")  # fmt: skip
    return Reduction(
        FORMAT, encoder.sha256, encoder.is_degraded, encoder.n_dims, n_components, anchors_sha256(), tuple(ANCHORS),
        _text(anchor_axes(encoder)), after_us, until_us, filters_sha256, sources, towers,
    )  # fmt: skip


def decode_reduction(data: bytes) -> Reduction:
    """
    Return a stored reduction.

    Raises:
        ValueError: if the bytes are none, or of another format.
    """
    try:
        found = msgspec.json.decode(data, type=Reduction)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a reduction as JSON: {error}") from error
    if found.format != FORMAT:
        raise ValueError(f"expected the format {FORMAT}, received {found.format!r}")
    return found


def _fit(rows: npt.NDArray[np.float64], n_components: int) -> TowerReduction:
    center = rows.mean(axis=0)
    centered = rows - center
    # One thread: two split the sums elsewhere, and rounding to float32 does not hide it (4 of 88 drawn fits differed).
    with threadpool_limits(limits=1):
        # Of the covariance: its size does not grow with the posts.
        _, squares, directions = np.linalg.svd(centered.T @ centered / len(rows), hermitian=True)
    components = directions[:n_components]
    # A component and its opposite are the same axis: the largest coordinate is made positive.
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(np.take_along_axis(components, largest[:, None], axis=1))
    total = float(squares.sum()) or 1.0
    frac = tuple(round(float(square) / total, 6) for square in squares[:n_components])
    return TowerReduction(len(rows), _text(center), _text(components), frac)


def _text(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def _floats(text: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")
