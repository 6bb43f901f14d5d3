"""What the machine can do to a row of symbols, by number. machine.py carries out, primitives.py emits."""

from __future__ import annotations

from enum import IntEnum

# Operands that one instruction may have, and constants beside them.
N_ARGUMENTS_MAX = 8
N_CONSTANTS_MAX = 6


class Op(IntEnum):
    """
    One instruction: a, b, c, … are its operands, p0, p1, … its constants.

    Every result is NaN where an operand that it depends on is NaN, except for MISSING and FILL. The joins put two
    neighbouring windows together: a… describe the newer one of p bars, b… the older one of q bars (Chan, Golub and
    LeVeque 1983; Pébay 2008), so a window of n bars takes log2(n) of them, no running sum and no memory of what has
    left the window.
    """

    CONSTANT = 0  # p0, in every row; never executed
    PICKED = 1  # written by a SORTED; never executed itself
    LOAD_BAR = 2  # input p0, NaN where the row is no bar
    LOAD_STATE = 3  # input p0, NaN where it is not finite
    WAVE = 4  # entry (index · p1) mod p2 of the table of waves that starts at p0
    COPY = 5  # a
    AFFINE = 6  # a · p0 + p1
    ADD = 7
    SUBTRACT = 8
    MULTIPLY = 9
    DIVIDE = 10  # a / b, 0 where b is 0
    LARGER = 11
    SMALLER = 12
    ABOVE = 13  # 1 where a > b, else 0
    WHERE = 14  # b where a > 0, else c
    LOG = 15  # NaN where a is not positive
    ABS = 16
    SIGN = 17
    SQRT = 18  # 0 where a is negative
    CLIP = 19  # a within [p0, p1]
    MISSING = 20  # 1 where a is NaN, else 0
    FILL = 21  # a, p0 where it is NaN
    JOIN_MEAN = 22  # a, b: means; p0 = q / (p + q)
    JOIN_SQUARES = 23  # a, b: sums of squared deviations; c, d: means; p0 = p q / (p + q)
    JOIN_PRODUCTS = 24  # a, b: sums of products of deviations; c, d and e, f: means
    JOIN_CUBES = 25  # a, b; c, d: squares; e, f: means
    JOIN_FOURTHS = 26  # a, b; c, d: cubes; e, f: squares; g, h: means
    JOIN_PLACE = 27  # a, b: bars since the extreme; c, d: extremes; p0 = p; p1 = 1 maximum, -1 minimum
    JOIN_WEIGHTED = 28  # a + p0 b
    JOIN_TREND = 29  # a + b + p0 (d - c); c, d: means
    RANK = 30  # of a among its last p0 values; b = a, p0 - 1 bars ago
    SORTED = 31  # order statistics of the last p0 values of a; b = a, p0 bars ago; c, … = where to write them
    CROSS_RANK = 32
    CROSS_ZSCORE = 33
    CROSS_DEMEAN = 34
