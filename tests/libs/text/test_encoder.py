"""MiniLM out of its weights: the graph, what int8 costs, and that a vector depends on its text alone."""

from __future__ import annotations

import math
import shutil

import numpy as np
import onnxruntime as ort
import pytest
from safetensors.numpy import load
from tokenizers import Tokenizer

from qraft_contracts.outcomes import Malformed
from qraft_text.encoder import CachedEncoder, HashedEncoder
from qraft_text.encoder.graph import N_DIMS, N_HEADS, N_LAYERS, build_graph, quantize
from qraft_text.encoder.minilm import ABOUT_FILE, GRAPH_FILE, MiniLM, open_encoder
from qraft_text.encoder.weights import TOKENIZER_FILE, WEIGHTS_FILE, find_weights, read_pinned
from qraft_text.sentiment import Sentiment

TEXTS = [
    "Bitcoin just had its highest daily close of all time, $19,711.",
    "The exchange was hacked and all withdrawals are halted until further notice",
    "gm",
    "Solid daily close for $ETH, highest close ever on that exchange! Who is buying the dip with me today?",
    "",
]


@pytest.fixture(scope="module")
def weights_folder():
    folder = find_weights()
    if folder is None:
        pytest.skip("NO WEIGHTS: install qraft-text[encoder] to run this test")
    return folder


@pytest.fixture(scope="module")
def weights(weights_folder):
    return load(read_pinned(weights_folder, WEIGHTS_FILE))


@pytest.fixture(scope="module")
def home(tmp_path_factory, weights_folder):
    folder = tmp_path_factory.mktemp("models")
    assert isinstance(open_encoder(folder), MiniLM)
    return folder


@pytest.fixture(scope="module")
def minilm(home):
    encoder = open_encoder(home, weights=home / "nowhere")  # built already: no weights are asked for
    assert isinstance(encoder, MiniLM)
    return encoder


@pytest.fixture(scope="module")
def tokenizer(weights_folder):
    found = Tokenizer.from_buffer(read_pinned(weights_folder, TOKENIZER_FILE))
    found.no_padding()
    return found


def forward(weights, ids):
    """Return the token states of one text in plain numpy, float64: BERT as in its paper."""

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]

    def dense(x, name):
        return x @ weights[f"{name}.weight"].astype(float).T + weights[f"{name}.bias"]

    x = weights["embeddings.word_embeddings.weight"][ids].astype(float)
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
    erf = np.vectorize(math.erf)
    for i in range(N_LAYERS):
        name = f"encoder.layer.{i}"
        query, key, value = (
            dense(x, f"{name}.attention.self.{part}").reshape(len(ids), N_HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / math.sqrt(N_DIMS // N_HEADS)
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weight / weight.sum(-1, keepdims=True)) @ value
        mixed = mixed.swapaxes(0, 1).reshape(len(ids), -1)
        x = norm(dense(mixed, f"{name}.attention.output.dense") + x, f"{name}.attention.output")
        wide = dense(x, f"{name}.intermediate.dense")
        wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
        x = norm(dense(wide, f"{name}.output.dense") + x, f"{name}.output")
    return x


def run(graph, ids, mask=None):
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows = np.atleast_2d(np.array(ids, np.int64))
    mask = np.ones_like(rows) if mask is None else np.array(mask, np.int64)
    return session.run(["token_states", "sentence_vec"], {"input_ids": rows, "attention_mask": mask})


def test_float_graph_gives_the_numbers_of_a_plain_forward_pass(weights, tokenizer):
    ids = tokenizer.encode(TEXTS[0]).ids
    expected = forward(weights, ids)
    mean = expected.mean(axis=0)

    states, vector = run(build_graph(weights, is_int8=False), ids)

    assert states.dtype == vector.dtype == np.float32
    np.testing.assert_allclose(states[0], expected, atol=2e-5)
    np.testing.assert_allclose(vector[0], mean / np.linalg.norm(mean), atol=2e-6)


def test_padding_behind_the_mask_changes_nothing(weights, tokenizer):
    ids = tokenizer.encode(TEXTS[0]).ids
    graph = build_graph(weights, is_int8=False)

    _, alone = run(graph, ids)
    _, padded = run(graph, [*ids, 0, 0, 0], mask=[[1] * len(ids) + [0] * 3])

    np.testing.assert_allclose(padded, alone, atol=1e-6)


def test_int8_keeps_the_direction_of_every_text_that_has_words(weights, tokenizer, minilm):
    whole = build_graph(weights, is_int8=False)
    plain = np.concatenate([run(whole, tokenizer.encode(text).ids)[1] for text in TEXTS[:-1]])  # the last has no words

    cosine = (minilm.encode(TEXTS[:-1]).astype(float) * plain).sum(axis=1)

    assert cosine.min() >= 0.99


def test_int8_values_are_within_half_a_step_of_the_weights(weights):
    matrix = weights["encoder.layer.0.intermediate.dense.weight"].T

    values, scale = quantize(matrix, axis=0)

    assert scale.shape == (1, matrix.shape[1])
    assert (np.abs(values * scale - matrix) <= scale * 0.5001).all()


def test_vector_depends_on_its_text_alone_whatever_order_and_threads(minilm):
    alone = np.concatenate([minilm.encode([text]) for text in TEXTS])
    many = [text for text in TEXTS for _ in range(30)]

    np.testing.assert_array_equal(minilm.encode(TEXTS[::-1])[::-1], alone)
    np.testing.assert_array_equal(minilm.encode(many, n_threads=3)[::30], alone)


def test_meaning_is_near_meaning(minilm):
    a, b, c = minilm.encode(["bitcoin price falls", "btc drops in value", "my cat likes fish"]).astype(float)

    assert a @ b > 0.5 > a @ c


def test_token_states_are_float32_a_row_a_token(minilm, tokenizer):
    states = minilm.token_states(TEXTS[0])

    assert states.dtype == np.float32
    assert states.shape == (len(tokenizer.encode(TEXTS[0]).ids), 384)
    assert minilm.token_states("word " * 500).shape[0] == 128


def test_changed_graph_and_other_weights_are_refused(home, weights_folder, tmp_path):
    changed = tmp_path / "models"
    shutil.copytree(home, changed)
    graph = next(changed.glob(f"*/{GRAPH_FILE}"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / WEIGHTS_FILE).write_bytes(b"other")

    with pytest.raises(Malformed, match="changed_encoder"):
        open_encoder(changed)
    with pytest.raises(Malformed, match="other_weights"):
        open_encoder(tmp_path / "new", weights=tmp_path / "w")
    assert not list((tmp_path / "new").glob(f"*/{ABOUT_FILE}"))


class Counting:
    """A small encoder that says what it was asked."""

    sha256, n_dims, is_degraded = "ab" * 32, 3, False

    def __init__(self):
        self.asked = []

    def encode(self, texts, *, n_threads=1):
        self.asked += texts
        return np.array([[len(text), hash(text) % 7, 1] for text in texts], np.float16).reshape(-1, 3)


def test_cache_gives_the_same_vectors_and_asks_once_for_each_text(tmp_path):
    plain, counting = Counting(), Counting()
    cached = CachedEncoder(counting, tmp_path)

    first = cached.encode(["a", "bb", "a", "ccc"])
    again = CachedEncoder(counting, tmp_path).encode(["ccc", "dddd", "a"])

    np.testing.assert_array_equal(first, plain.encode(["a", "bb", "a", "ccc"]))
    np.testing.assert_array_equal(again, plain.encode(["ccc", "dddd", "a"]))
    assert counting.asked == ["a", "bb", "ccc", "dddd"]
    assert (cached.n_encoded, cached.n_found) == (3, 0)


def test_cache_stays_within_its_bound_and_forgets_the_oldest(tmp_path):
    counting = Counting()
    cached = CachedEncoder(counting, tmp_path, n_vectors_max=4)
    for texts in (["a", "b"], ["c", "d"], ["e", "f"]):
        cached.encode(texts)

    assert sum(len(np.load(path)) for path in tmp_path.glob("*/*.npy")) == 4
    counting.asked.clear()
    CachedEncoder(counting, tmp_path).encode(["a", "c", "e"])
    assert counting.asked == ["a"]


def test_damaged_cache_says_what_to_delete(tmp_path):
    CachedEncoder(Counting(), tmp_path).encode(["a", "b"])
    path = next(tmp_path.glob("*/*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")

    with pytest.raises(Malformed, match="delete it"):
        CachedEncoder(Counting(), tmp_path)


def test_without_weights_hashed_words_have_the_same_interface_and_say_that_they_are_degraded(tmp_path, monkeypatch):
    monkeypatch.setattr("qraft_text.encoder.weights._PACKAGE", "no_such_package_of_weights")
    hashed = HashedEncoder(Sentiment())

    vectors = hashed.encode(["bitcoin is up", "bitcoin is up!", "the exchange was hacked", ""]).astype(float)

    assert open_encoder(tmp_path) is None
    assert hashed.is_degraded
    assert vectors.shape == (4, hashed.n_dims)
    np.testing.assert_allclose((vectors**2).sum(axis=1), [1, 1, 1, 0], atol=2e-3)
    assert vectors[0] @ vectors[1] > 0.6 > 0.2 > vectors[0] @ vectors[2]
