"""
MiniLM as an ONNX graph, built node by node from its weights: float32, or int8 for every matrix.

Source: Devlin et al., BERT (2019), as in all-MiniLM-L6-v2: 6 layers of 12 heads, 384 wide, GELU, normalization after
each block; the sentence vector is the mean of the token states, of length 1. int8: each column of a matrix, each row of
the embeddings and each token that flows in has its own scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, npt.NDArray[Any]]
N_LAYERS: Final = 6
N_HEADS: Final = 12
N_DIMS: Final = 384
N_POSITIONS_MAX: Final = 512
_NORM_EPSILON: Final = 1e-12
_OPSET: Final = 20  # the first with Gelu
_IR_VERSION: Final = 9
_MASKED: Final = -1e9  # a score that softmax makes exactly 0
_MIDDLE: Final = 128  # the zero of unsigned bytes, which the fast kernels take for what flows in
_LARGEST_MIN: Final = 1e-9  # a token of zeros has a scale too

INPUTS: Final = ("input_ids", "attention_mask")
TOKEN_STATES: Final = "token_states"  # noqa: S105  no password
SENTENCE_VECTOR: Final = "sentence_vec"


def build_graph(weights: Weights, *, is_int8: bool) -> bytes:
    """
    Return the model file: (batch, tokens) int64 ids and mask to token_states (batch, tokens, 384) and sentence_vec
    (batch, 384), both float32.

    The same weights give the same bytes under one version of onnx.

    Raises:
        KeyError: if a weight is missing.
    """
    graph = _Graph(is_int8=is_int8)
    hidden = _embeddings(graph, weights)
    bias = _mask_bias(graph)
    for layer in range(N_LAYERS):
        hidden = _layer(graph, weights, f"encoder.layer.{layer}", hidden, bias)
    _outputs(graph, hidden)
    shapes = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in INPUTS]
    outputs = [
        helper.make_tensor_value_info(TOKEN_STATES, TensorProto.FLOAT, ["batch", "tokens", N_DIMS]),
        helper.make_tensor_value_info(SENTENCE_VECTOR, TensorProto.FLOAT, ["batch", N_DIMS]),
    ]
    made = helper.make_graph(graph.nodes, "minilm", shapes, outputs, graph.constants)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="qraft_text", ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


class _Graph:
    """Nodes and constants as they are added; names are numbered in order, so the bytes are the same every time."""

    def __init__(self, *, is_int8: bool) -> None:
        self.is_int8 = is_int8
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of one output and return its name."""
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def several(self, operator: str, *inputs: str, n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node of several outputs and return their names."""
        names = [f"{operator.lower()}_{len(self.nodes)}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def constant(self, values: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def linear(self, x: str, matrix: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> str:
        """Add x @ matrix + bias; matrix: (n_in, n_out)."""
        if not self.is_int8:
            return self.add("Add", self.add("MatMul", x, self.constant(matrix)), self.constant(bias))
        quantized, scale = quantize(matrix, axis=0)
        # One scale a token: with one for the whole text (DynamicQuantizeLinear) a tweet in a hundred falls below 0.99
        # of cosine (median 0.993, least 0.984 of 400 tweets; so: 0.997, 0.994), for a quarter less time.
        largest = self.add("ReduceMax", self.add("Abs", x), self.constant(np.array([-1])), keepdims=1)
        floor, step, middle = (self.constant(np.array([v], np.float32)) for v in (_LARGEST_MIN, 1 / 127, _MIDDLE))
        x_scale = self.add("Mul", self.add("Max", largest, floor), step)
        shifted = self.add("Add", self.add("Round", self.add("Div", x, x_scale)), middle)
        x_int = self.add("Cast", shifted, to=TensorProto.UINT8)
        zeros = (self.constant(np.array(_MIDDLE, np.uint8)), self.constant(np.zeros(scale.size, np.int8)))
        product = self.cast(self.add("MatMulInteger", x_int, self.constant(quantized), *zeros))
        scaled = self.add("Mul", self.add("Mul", product, x_scale), self.constant(scale.ravel()))
        return self.add("Add", scaled, self.constant(bias))

    def cast(self, x: str) -> str:
        """Add a cast to float32."""
        return self.add("Cast", x, to=TensorProto.FLOAT)

    def rows(self, table: npt.NDArray[np.float32], ids: str) -> str:
        """Add a look-up of rows of a table."""
        if not self.is_int8:
            return self.add("Gather", self.constant(table), ids)
        quantized, scale = quantize(table, axis=1)
        found = self.cast(self.add("Gather", self.constant(quantized), ids))
        return self.add("Mul", found, self.add("Gather", self.constant(scale), ids))

    def norm(self, x: str, weights: Weights, name: str) -> str:
        """Add a normalization over the last axis."""
        scale, bias = (self.constant(weights[f"{name}.LayerNorm.{part}"]) for part in ("weight", "bias"))
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=_NORM_EPSILON)


def quantize(values: npt.NDArray[np.float32], *, axis: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 values and their scale, one scale for all along `axis` (kept, of length 1); values = int8 x scale."""
    largest = np.abs(values).max(axis=axis, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale


def _embeddings(graph: _Graph, weights: Weights) -> str:
    words = graph.rows(weights["embeddings.word_embeddings.weight"], INPUTS[0])
    # Every text is one segment, so that the first row of the segment table is a constant of every position.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    n_tokens = graph.add("Shape", INPUTS[0], start=1, end=2)
    first = graph.add("Slice", graph.constant(positions), graph.constant(np.array([0])), n_tokens)
    return graph.norm(graph.add("Add", words, first), weights, "embeddings")


def _mask_bias(graph: _Graph) -> str:
    """Return 0 where there is a token and a large negative score where there is none, (batch, 1, 1, tokens)."""
    mask = graph.add("Unsqueeze", graph.cast(INPUTS[1]), graph.constant(np.array([1, 2])))
    absent = graph.add("Sub", graph.constant(np.array([1.0], np.float32)), mask)
    return graph.add("Mul", absent, graph.constant(np.array([_MASKED], np.float32)))


def _layer(graph: _Graph, weights: Weights, name: str, hidden: str, bias: str) -> str:
    attended = _attention(graph, weights, f"{name}.attention", hidden, bias)
    hidden = graph.norm(graph.add("Add", attended, hidden), weights, f"{name}.attention.output")
    wide = graph.add("Gelu", _dense(graph, weights, f"{name}.intermediate.dense", hidden))
    narrow = _dense(graph, weights, f"{name}.output.dense", wide)
    return graph.norm(graph.add("Add", narrow, hidden), weights, f"{name}.output")


def _attention(graph: _Graph, weights: Weights, name: str, hidden: str, bias: str) -> str:
    # One matrix for query, key and value: the input is quantized once. The scale of the scores goes into the query.
    parts = [f"{name}.self.{part}" for part in ("query", "key", "value")]
    factor = np.float32((N_DIMS // N_HEADS) ** -0.5)
    scales = (factor, np.float32(1.0), np.float32(1.0))
    matrix = np.concatenate([weights[f"{p}.weight"].T * scale for p, scale in zip(parts, scales, strict=True)], axis=1)
    vector = np.concatenate([weights[f"{p}.bias"] * scale for p, scale in zip(parts, scales, strict=True)])
    projected = graph.linear(hidden, matrix, vector)
    thirds = graph.several("Split", projected, n_outputs=3, axis=-1, num_outputs=3)
    by_head = graph.constant(np.array([0, 0, N_HEADS, N_DIMS // N_HEADS]))
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", third, by_head), perm=perm)
        for third, perm in zip(thirds, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    )
    weight = graph.add("Softmax", graph.add("Add", graph.add("MatMul", query, key), bias), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", weight, value), perm=[0, 2, 1, 3])
    flat = graph.add("Reshape", mixed, graph.constant(np.array([0, 0, N_DIMS])))
    return _dense(graph, weights, f"{name}.output.dense", flat)


def _dense(graph: _Graph, weights: Weights, name: str, x: str) -> str:
    return graph.linear(x, weights[f"{name}.weight"].T, weights[f"{name}.bias"])


def _outputs(graph: _Graph, hidden: str) -> None:
    states = graph.add("Identity", hidden, output=TOKEN_STATES)
    mask = graph.add("Unsqueeze", graph.cast(INPUTS[1]), graph.constant(np.array([2])))
    tokens = graph.constant(np.array([1]))
    total = graph.add("ReduceSum", graph.add("Mul", states, mask), tokens, keepdims=0)
    mean = graph.add("Div", total, graph.add("ReduceSum", mask, tokens, keepdims=0))
    length = graph.add("ReduceL2", mean, tokens, keepdims=1)
    graph.add("Div", mean, length, output=SENTENCE_VECTOR)
