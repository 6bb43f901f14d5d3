"""How the functions of the engine are compiled."""

from __future__ import annotations

from typing import Final

# For functions that only compiled code calls. Without the wrappers for Python and C, compiling all takes half as long.
# error_model: division by zero gives infinity or NaN instead of a branch, which would keep loops from vector code. No
# fastmath: the order of operations is the contract.
INNER: Final = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# For functions that only call others: taken into their caller before anything is compiled, as every level of calls
# would be optimized once more by itself. Calls in a row with other constants are loops over a table instead, because
# numba compiles a function anew for each constant.
OUTER: Final = INNER | {"inline": "always"}
