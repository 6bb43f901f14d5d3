"""Axes with a name: the direction from one set of phrases to another, in the space of an encoder."""

from __future__ import annotations

import hashlib
import json
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_text.encoder.port import Encoder

# name -> (phrases at the upper end, phrases at the lower end).
ANCHORS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "bull": (("the price will go up, very bullish", "time to buy, a rally is starting"),
             ("the price will go down, very bearish", "time to sell, a crash is starting")),
    "greed": (("everyone is getting rich, fear of missing out", "to the moon, euphoria"),
              ("panic selling, everyone is afraid", "despair, capitulation")),
    "conviction": (("I am certain, this is guaranteed to happen",), ("I am not sure, maybe, what do you think?",)),
    "hack": (("the exchange was hacked and funds were stolen", "an exploit drained the protocol"),
             ("the protocol is safe and audited",)),
    "regulation": (("the regulator sues the company and bans trading", "new law restricts crypto"),
                   ("the regulator approves it, legal clarity",)),
    "upgrade": (("the network upgrade went live successfully", "new version released on mainnet"),
                ("the network upgrade was delayed", "a bug halted the network")),
    "listing": (("the token will be listed on a large exchange",), ("the token is delisted from the exchange",)),
    "liquidation": (("leveraged long positions were liquidated in a cascade",),
                    ("calm market, low leverage and little volatility",)),
    "institution": (("a large company bought it for its treasury", "institutional investors are entering"),
                    ("small retail traders are gambling",)),
    "macro": (("inflation is rising and the central bank raises rates",),
              ("the central bank cuts rates and prints money",)),
    "analysis": (("technical analysis of the chart: support, resistance, target",),
                 ("a joke, a meme, small talk",)),
    "promotion": (("join our giveaway, follow and retweet to win", "sign up now for free signals"),
                  ("a factual news report",)),
}  # fmt: skip


def anchors_sha256() -> str:
    """Return the name of the phrases."""
    return hashlib.sha256(json.dumps(ANCHORS, sort_keys=True).encode()).hexdigest()


def anchor_axes(encoder: Encoder) -> npt.NDArray[np.float32]:
    """Return one axis of length 1 an anchor, (n_anchors, n_dims): mean of the upper phrases - mean of the lower."""
    axes = np.empty((len(ANCHORS), encoder.n_dims))
    for axis, (upper, lower) in zip(axes, ANCHORS.values(), strict=True):
        axis[:] = encoder.encode(upper).astype(float).mean(axis=0) - encoder.encode(lower).astype(float).mean(axis=0)
    lengths = np.sqrt((axes**2).sum(axis=1, keepdims=True))
    return (axes / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
