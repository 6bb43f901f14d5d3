"""What the use cases need from outside. Adapters: `adapters/onnx.py`, `adapters/active.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from svc_inference.domain.model import ActiveModel, ModelInfo

Float32Array = npt.NDArray[np.float32]


class Model(Protocol):
    """A loaded model."""

    @property
    def info(self) -> ModelInfo:
        """Return what the model says of itself."""
        ...

    def predict(self, x: Float32Array) -> Float32Array:
        """
        Return the outputs of some rows.

        Args:
            x: (n_rows, n_features), finite, C order.

        Returns:
            (n_rows, N_OUTPUTS) in the layout of domain/model.py; not judged.

        Raises:
            Refused: if the runtime fails or answers with another shape.
        """
        ...


class ModelSource(Protocol):
    """Where models come from."""

    async def load(self, active: ActiveModel) -> Model:
        """
        Return the model, ready to predict.

        Raises:
            Refused: if its files are missing, changed, or not what a model must be.
            Transient: if the artefact store is away.
        """
        ...


class ActiveModels(Protocol):
    """Where it stands which model is active."""

    async def active(self) -> Mapping[str, ActiveModel]:
        """
        Return the active model of each horizon; horizons without one are left out.

        Raises:
            Transient: if the registry is away.
        """
        ...
