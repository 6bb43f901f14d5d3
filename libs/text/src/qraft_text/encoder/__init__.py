"""Texts as vectors: MiniLM out of its weights, or hashed words where there are none; the same interface."""

from qraft_text.encoder.cache import CachedEncoder
from qraft_text.encoder.hashed import HashedEncoder
from qraft_text.encoder.minilm import MiniLM, open_encoder
from qraft_text.encoder.port import Encoder, TextVectors

__all__ = ["CachedEncoder", "Encoder", "HashedEncoder", "MiniLM", "TextVectors", "open_encoder"]
