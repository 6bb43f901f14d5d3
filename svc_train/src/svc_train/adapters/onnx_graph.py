"""
All heads as one ONNX graph, built by hand, and run by onnxruntime.

A tree ensemble for each head, then a few small nodes: the tree sums leave float32 error only, because every threshold
is floored to float32 (svc_train.domain.trees.floor32) and every constant is added after the sum. One ensemble with a
target a head gives the same bits and is slower: its nodes do not fit the second-level cache that rows share (500 rows,
12 x 64 trees, one thread: 10.7 against 7.6 ms; one row: the same).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from svc_train.domain.heads import HEAD_KINDS, HorizonModel
from svc_train.domain.samples import Float32Array, FloatArray
from svc_train.domain.trees import Tree, floor32

_OPSET: Final = 17
_ML_OPSET: Final = 3
# The newest format that every onnxruntime since 1.15 reads.
_IR_VERSION: Final = 8
INPUT_NAME: Final = "x"
OUTPUT_NAME: Final = "y"


class OnnxGraph:
    """Writes and runs the model file."""

    def export(self, models: Sequence[HorizonModel], *, n_features: int, metadata: Mapping[str, str]) -> bytes:
        """See ModelGraph. The checker runs on the result, and loading it is part of `evaluate`."""
        n_outputs = len(HEAD_KINDS) * len(models)
        graph = helper.make_graph(
            [*_ensembles(models), *_postprocess()],
            "qraft",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [None, n_features])],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [None, n_outputs])],
            _constants(models),
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="svc_train", ir_version=_IR_VERSION)
        helper.set_model_props(model, dict(sorted(metadata.items())))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def evaluate(self, graph: bytes, x: Float32Array) -> Float32Array:
        """See ModelGraph."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        y = np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: x})[0])
        assert y.dtype == np.float32, y.dtype
        return y


@dataclass(slots=True)
class _Nodes:
    """The columns of a tree ensemble as the operator wants them: one entry a node, or a leaf weight."""

    tree: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    mode: list[str] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    leaf_tree: list[int] = field(default_factory=list)
    leaf_node: list[int] = field(default_factory=list)
    leaf_weight: list[float] = field(default_factory=list)

    def add(self, tree: Tree, *, tree_id: int) -> None:
        """Append a tree: splits first, under their own numbers, then its leaves."""
        n_splits, n_leaves = tree.feature.size, tree.leaf.size
        n_nodes, blank = n_splits + n_leaves, [0] * n_leaves
        self.tree += [tree_id] * n_nodes
        self.node += range(n_nodes)
        self.feature += tree.feature.tolist() + blank
        self.threshold += floor32(tree.threshold).tolist() + [0.0] * n_leaves
        self.mode += ["BRANCH_LEQ"] * n_splits + ["LEAF"] * n_leaves
        # LightGBM names leaf j as child ~j.
        self.left += np.where(tree.left >= 0, tree.left, n_splits + ~tree.left).tolist() + blank
        self.right += np.where(tree.right >= 0, tree.right, n_splits + ~tree.right).tolist() + blank
        self.leaf_tree += [tree_id] * n_leaves
        self.leaf_node += range(n_splits, n_nodes)
        self.leaf_weight += tree.leaf.tolist()


def _ensembles(models: Sequence[HorizonModel]) -> list[onnx.NodeProto]:
    """Return the nodes x -> sums (n, 3 * n_horizons), kind-major so that one Split parts the kinds."""
    heads = [(f"{kind}_{model.horizon}", model.heads[kind].trees) for kind in HEAD_KINDS for model in models]
    joined = helper.make_node("Concat", [name for name, _ in heads], ["sums"], axis=1)
    return [*[_ensemble(name, trees) for name, trees in heads], joined]


def _ensemble(name: str, trees: Sequence[Tree]) -> onnx.NodeProto:
    """Return the node x -> (n, 1), the sum of the trees."""
    nodes = _Nodes()
    for tree_id, tree in enumerate(trees):
        nodes.add(tree, tree_id=tree_id)
    return helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT_NAME],
        [name],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=nodes.tree,
        nodes_nodeids=nodes.node,
        nodes_featureids=nodes.feature,
        nodes_values=nodes.threshold,
        nodes_modes=nodes.mode,
        nodes_truenodeids=nodes.left,
        nodes_falsenodeids=nodes.right,
        target_treeids=nodes.leaf_tree,
        target_nodeids=nodes.leaf_node,
        target_ids=[0] * len(nodes.leaf_tree),
        target_weights=nodes.leaf_weight,
    )


def _postprocess() -> list[onnx.NodeProto]:
    """Return the nodes sums -> y: gross return, confidence of its side, volatility; horizon-major."""
    make = helper.make_node
    return [
        make("Split", ["sums", "split"], ["net", "score", "log_volatility"], axis=1),
        make("Add", ["net", "gross_offset"], ["gross"]),
        make("Mul", ["score", "platt_slope"], ["scaled"]),
        make("Add", ["scaled", "platt_intercept"], ["log_odds"]),
        make("Sigmoid", ["log_odds"], ["up"]),
        make("Sub", ["one", "up"], ["down"]),
        make("GreaterOrEqual", ["gross", "zero"], ["is_long"]),
        make("Where", ["is_long", "up", "down"], ["confidence"]),
        make("Add", ["log_volatility", "volatility_offset"], ["log_volatility_full"]),
        make("Exp", ["log_volatility_full"], ["volatility"]),
        *[make("Unsqueeze", [name, "last_axis"], [f"{name}_column"]) for name in ("gross", "confidence", "volatility")],
        make("Concat", ["gross_column", "confidence_column", "volatility_column"], ["stacked"], axis=2),
        make("Reshape", ["stacked", "flat"], [OUTPUT_NAME]),
    ]


def _constants(models: Sequence[HorizonModel]) -> list[onnx.TensorProto]:
    returns = [model.heads["expected_return"].offset + model.cost for model in models]
    scores = [model.heads["direction"].offset for model in models]
    volatilities = [model.heads["volatility"].offset for model in models]
    slopes = [model.platt.slope for model in models]
    intercepts = [
        model.platt.slope * score + model.platt.intercept for model, score in zip(models, scores, strict=True)
    ]
    rows: dict[str, FloatArray] = {
        "gross_offset": np.array(returns),
        "platt_slope": np.array(slopes),
        "platt_intercept": np.array(intercepts),
        "volatility_offset": np.array(volatilities),
        "one": np.array(1.0),
        "zero": np.array(0.0),
    }
    integers = {
        "split": [len(models)] * len(HEAD_KINDS),
        "last_axis": [2],
        "flat": [0, len(HEAD_KINDS) * len(models)],  # 0 = as many rows as came in
    }
    return [numpy_helper.from_array(value.astype(np.float32), name) for name, value in rows.items()] + [
        numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in integers.items()
    ]
