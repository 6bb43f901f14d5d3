"""How the functions of the engine are compiled."""

from __future__ import annotations

from typing import Final

# For functions that only compiled code calls. Without the wrappers for Python and C, compiling all takes half as long.
# error_model: division by zero gives infinity or NaN instead of a branch, which would keep loops from vector code. No
# fastmath: the order of operations is the contract.
INNER: Final = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# For the one place that calls them: taken in before anything is compiled. Passing a dozen arrays costs 300 ns a call,
# more than an instruction does.
OUTER: Final = INNER | {"inline": "always"}
