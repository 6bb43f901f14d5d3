"""Models as ONNX files in the artefact store, run by onnxruntime on the CPU."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_contracts.subjects import HORIZONS
from qraft_registry.artefacts import MANIFEST_FILE, MODEL_FILE, Manifest, artefact_key, model_id_of
from qraft_store.artefacts.port import ArtefactStore
from svc_inference.domain.model import N_OUTPUTS, ActiveModel, ModelInfo
from svc_inference.ports import Model

INPUT: Final = "x"
OUTPUT: Final = "y"
_FLOAT: Final = "tensor(float)"

# Everything that onnxruntime raises; its exceptions share no base of their own.
_ORT_ERRORS: Final = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.ModelLoaded,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class _Metadata(msgspec.Struct, frozen=True):
    """The model's metadata_props after their JSON values were read."""

    feature_signature: str
    feature_names: tuple[str, ...]
    origin: Origin
    horizons: tuple[str, ...]
    costs: dict[str, float]
    buckets: dict[str, str]


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A Model in an onnxruntime session."""

    info: ModelInfo
    session: Any  # onnxruntime.InferenceSession; the package carries no types

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See Model."""
        try:
            outputs: npt.NDArray[np.float32] = self.session.run([OUTPUT], {INPUT: x})[0]
        except _ORT_ERRORS as error:
            raise Refused("model_failed", f"onnxruntime: {error}") from error
        if outputs.shape != (len(x), N_OUTPUTS) or outputs.dtype != np.float32:
            raise Refused("wrong_output", f"expected float32 ({len(x)}, {N_OUTPUTS}), received {outputs.shape}")
        return outputs


class OnnxModelSource:
    """
    A ModelSource over an artefact store.

    n_threads: of one call. With more than one the last bits of a row depend on the batch; idle threads never spin,
    which on two cores costs milliseconds at p99 (README, "Threads").
    """

    def __init__(self, artefacts: ArtefactStore, *, n_threads: int) -> None:
        self._artefacts = artefacts
        self._n_threads = n_threads

    async def load(self, active: ActiveModel) -> Model:
        """See ModelSource."""
        manifest = await self._manifest(active.model_id)
        data = await self._model(active)
        # Building a session takes 10 to 200 ms; bars go on meanwhile.
        return await asyncio.to_thread(open_model, data, manifest=manifest, n_threads=self._n_threads)

    async def _manifest(self, model_id: str) -> Manifest:
        key = artefact_key(model_id, MANIFEST_FILE)
        try:
            return msgspec.json.decode(await self._artefacts.get(key), type=Manifest)
        except KeyError as error:
            raise Refused("artefact_missing", f"expected {key}, received nothing") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused("bad_manifest", f"{key}: {error}") from error

    async def _model(self, active: ActiveModel) -> bytes:
        key = artefact_key(active.model_id, MODEL_FILE)
        if active.sha256 is None:
            raise Refused("no_hash", f"the registry names no SHA-256 of {key}")
        try:
            data = await self._artefacts.get(key, sha256=active.sha256)
        except KeyError as error:
            raise Refused("artefact_missing", f"expected {key}, received nothing") from error
        except ValueError as error:
            raise Refused("artefact_hash_mismatch", str(error)) from error
        if model_id_of(data) != active.model_id:
            raise Refused("artefact_hash_mismatch", f"{key} holds {model_id_of(data)}")
        return data


def open_model(data: bytes, *, manifest: Manifest, n_threads: int) -> OnnxModel:
    """
    Return a model ready to predict, having checked that it is what its manifest and this service expect.

    Raises:
        Refused: if it does not load, or its metadata, input or output are not as they must be.
    """
    try:
        session = ort.InferenceSession(data, _options(n_threads), providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise Refused("unloadable_model", f"onnxruntime: {error}") from error
    metadata = _metadata(session.get_modelmeta().custom_metadata_map)
    _check_metadata(metadata, manifest)
    _check_ports(session, n_features=len(metadata.feature_names))
    info = ModelInfo(
        model_id=manifest.model_id,
        feature_signature=metadata.feature_signature,
        feature_names=metadata.feature_names,
        origin=metadata.origin,
        costs=metadata.costs,
        buckets=metadata.buckets,
    )
    model = OnnxModel(info, session)
    # One call shows a wrong output shape now and not at the first bar, and warms the session.
    model.predict(np.zeros((1, len(info.feature_names)), np.float32))
    return model


def _options(n_threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _metadata(props: dict[str, str]) -> _Metadata:
    try:
        fields: dict[str, Any] = {name: props[name] for name in ("feature_signature", "origin")}
        for name in ("feature_names", "horizons", "costs", "buckets"):
            fields[name] = msgspec.json.decode(props[name])
        return msgspec.convert(fields, _Metadata)
    except (KeyError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Refused("bad_metadata", f"expected the metadata_props of a Qraft model: {error}") from error


def _check_metadata(metadata: _Metadata, manifest: Manifest) -> None:
    if metadata.horizons != HORIZONS or any(h not in metadata.costs or h not in metadata.buckets for h in HORIZONS):
        raise Refused("bad_metadata", f"expected costs and buckets of {list(HORIZONS)}, received {metadata.horizons}")
    if metadata.feature_signature != manifest.feature_signature:
        raise Refused("signature_mismatch", "the model and its manifest name different feature signatures")
    if metadata.origin is not manifest.origin:
        raise Refused("origin_mismatch", f"model {metadata.origin.value}, manifest {manifest.origin.value}")
    if metadata.origin is Origin.SIMULATED:
        raise Refused("simulated_model", "a model trained on simulated data is never active")


def _check_ports(session: Any, *, n_features: int) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = [(port.name, port.type) for port in (*inputs, *outputs)]
    if found != [(INPUT, _FLOAT), (OUTPUT, _FLOAT)]:
        raise Refused("wrong_ports", f"expected input {INPUT} and output {OUTPUT} of {_FLOAT}, received {found}")
    if len(inputs[0].shape) != 2 or inputs[0].shape[1] != n_features:
        raise Refused("wrong_input_shape", f"expected (n, {n_features}), received {inputs[0].shape}")
