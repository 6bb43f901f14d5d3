"""What the service knows of a loaded model, and the layout of its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import HORIZONS

# Output `y`: horizon-major, three columns a horizon.
EXPECTED_RETURN: Final = 0
CONFIDENCE: Final = 1
VOLATILITY: Final = 2
N_PER_HORIZON: Final = 3
N_OUTPUTS: Final = N_PER_HORIZON * len(HORIZONS)

# Beyond these an output is a broken model, not an outlook: a doubling or a total loss within seven days at most,
# and a volatility of 500 % over a horizon.
EXPECTED_RETURN_MAX: Final = 1.0
VOLATILITY_MAX: Final = 5.0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """
    A model's own words, out of its ONNX metadata.

    costs: round trip by horizon, fraction of notional. buckets: by horizon. origin: of the data it was trained on.
    """

    model_id: str
    feature_signature: str
    feature_names: tuple[str, ...]
    origin: Origin
    costs: Mapping[str, float]
    buckets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """What the registry says is active in a slot. sha256: of the ONNX file that was judged, None if unknown."""

    model_id: str
    sha256: str | None
