"""Texts as vectors: MiniLM out of its weights (minilm.py), or hashed words where there are none; the same interface."""

from qraft_text.encoder.cache import CachedEncoder
from qraft_text.encoder.hashed import HashedEncoder
from qraft_text.encoder.port import Encoder, TextVectors

# What needs onnxruntime and tokenizers is imported by its own name: aggregates need neither (extra `encoder`).
__all__ = ["CachedEncoder", "Encoder", "HashedEncoder", "TextVectors"]
