"""MiniLM in onnxruntime. The graph is built once from the weights and kept under the home, named by what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from qraft_contracts.outcomes import Malformed, Refused
from qraft_store.files import write_whole
from qraft_text.encoder.port import Encoder, TextVectors
from qraft_text.encoder.weights import PINNED, TOKENIZER_FILE, WEIGHTS_FILE, find_weights, read_pinned

# The length that the model was trained on; 95 of 100 tweets have fewer than 100 tokens.
N_TOKENS_MAX: Final = 128
GRAPH_FILE: Final = "minilm-int8.onnx"
ABOUT_FILE: Final = "about.json"
# Version of graph.py: another one builds into another folder.
_BUILD: Final = "int8-by-token/1"
_PART: Final = 64  # texts a thread takes at a time


class MiniLM:
    """
    Texts as vectors of 384. Each text runs alone: in a batch the last bits of its vector depend on its neighbors, and
    so on what was posted later (1,494 of 1,500 tweets, float32 too); alone it is faster besides, nothing being padded.
    """

    is_degraded: Final = False
    n_dims: Final = 384

    def __init__(self, graph: bytes, tokenizer: bytes) -> None:
        options = ort.SessionOptions()
        # One thread a text: more would split sums differently. Threads that wait must not spin on a busy machine.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_buffer(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(N_TOKENS_MAX)
        parts = (hashlib.sha256(graph).hexdigest(), hashlib.sha256(tokenizer).hexdigest(), str(N_TOKENS_MAX))
        self.sha256 = hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def encode(self, texts: Sequence[str], *, n_threads: int = 1) -> TextVectors:
        """Return the sentence vectors, (n_texts, 384), each of length 1 up to half precision."""
        vectors = np.empty((len(texts), self.n_dims), np.float16)

        def part(start: int) -> None:
            for i in range(start, min(start + _PART, len(texts))):
                vectors[i] = self._run("sentence_vec", texts[i])[0]

        with ThreadPoolExecutor(max(1, n_threads)) as pool:
            list(pool.map(part, range(0, len(texts), _PART)))
        return vectors

    def token_states(self, text: str) -> npt.NDArray[np.float32]:
        """Return the state of each token, (n_tokens, 384), begin and end marks included, at most 128."""
        states: npt.NDArray[np.float32] = self._run("token_states", text)[0]
        return states

    def _run(self, output: str, text: str) -> npt.NDArray[Any]:
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        found: npt.NDArray[Any] = self._session.run([output], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[
            0
        ]
        return found


def open_encoder(folder: Path, *, weights: Path | None = None) -> Encoder | None:
    """
    Return MiniLM; the first call builds its graph under `folder` (2 s, 23 MB), later ones need no weights.

    Args:
        folder: such as QRAFT_HOME/models/text.
        weights: folder of the weights; None = the installed ones.

    Returns:
        None where neither a built graph nor weights are there: use HashedEncoder, and say so.

    Raises:
        Malformed: if the weights are not the pinned ones, or the built files were changed.
        Transient: if the folder cannot be written.
    """
    identity = hashlib.sha256(f"{PINNED[WEIGHTS_FILE]}{PINNED[TOKENIZER_FILE]}{_BUILD}".encode()).hexdigest()
    place = folder / identity[:16]
    if not (place / ABOUT_FILE).is_file():
        found = weights or find_weights()
        if found is None:
            return None
        _build(place, found)
    return _load(place)


def _build(place: Path, weights: Path) -> None:
    try:
        from safetensors.numpy import load  # both are of the extra `encoder`, needed for this one call

        from qraft_text.encoder.graph import build_graph
    except ModuleNotFoundError as error:
        raise Refused("no_builder", f"expected onnx and safetensors to build the encoder: {error}; install "
                      "qraft-text[encoder]") from error  # fmt: skip
    graph = build_graph(load(read_pinned(weights, WEIGHTS_FILE)), is_int8=True)
    tokenizer = read_pinned(weights, TOKENIZER_FILE)
    about = {GRAPH_FILE: hashlib.sha256(graph).hexdigest(), TOKENIZER_FILE: PINNED[TOKENIZER_FILE],
             WEIGHTS_FILE: PINNED[WEIGHTS_FILE], "build": _BUILD}  # fmt: skip
    # The description last: what has one is whole.
    for name, data in ((GRAPH_FILE, graph), (TOKENIZER_FILE, tokenizer), (ABOUT_FILE, json.dumps(about).encode())):
        write_whole(place / name, partial(_write, data))


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _load(place: Path) -> MiniLM:
    about = json.loads((place / ABOUT_FILE).read_bytes())
    files = {}
    for name in (GRAPH_FILE, TOKENIZER_FILE):
        files[name] = (place / name).read_bytes()
        received = hashlib.sha256(files[name]).hexdigest()
        if received != about[name]:
            raise Malformed("changed_encoder", f"expected {place / name} with SHA-256 {about[name]}, received "
                            f"{received}: delete the folder, it is built anew")  # fmt: skip
    return MiniLM(files[GRAPH_FILE], files[TOKENIZER_FILE])
