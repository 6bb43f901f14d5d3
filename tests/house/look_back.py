"""Finds code that looks back, ahead or across in time without the aligner: by name and by form, in the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# Calls and methods of numpy, pandas, polars, scipy, itertools and numba code that move, accumulate or join over rows.
NAMES: Final = frozenset({
    "shift", "shift_and_fill", "roll", "rolling", "expanding", "ewm", "diff", "pct_change", "ediff1d", "gradient",
    "cumsum", "nancumsum", "cumprod", "nancumprod", "cummax", "cummin", "cum_sum", "cum_prod", "cum_max", "cum_min",
    "cum_count", "cumulative_sum", "cumulative_prod", "cumulative_eval", "accumulate", "sliding_window_view",
    "as_strided", "merge_asof", "merge_ordered", "join_asof", "asof", "searchsorted", "search_sorted", "ffill",
    "bfill", "forward_fill", "backward_fill", "pad", "interpolate", "interp", "resample", "upsample",
    "group_by_dynamic", "groupby_dynamic", "convolve", "correlate", "lfilter", "filtfilt", "sosfilt", "savgol_filter",
    "detrend", "uniform_filter1d", "flip", "flipud", "rot90", "lead", "lag",
})  # fmt: skip
PREFIXES: Final = ("rolling_", "cum_", "ewm_")
# Folders in which times are rows of arrays, so that arithmetic on an index is a look at another time.
ROWS_ARE_TIMES: Final = ("libs/quant/", "libs/data/", "libs/screening/", "libs/text/", "svc_features/", "svc_train/")


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """One place. what: the name, or the form: `[::-1]`, `[:-h]`, `[i - n]`."""

    path: str
    line: int
    what: str


def find_uses(path: str, source: str) -> list[Use]:
    """Return every use in a file, by line; path is relative to the repository."""
    tree = ast.parse(source)
    aligned = _aligner_names(tree)
    rows_are_times = path.startswith(ROWS_ARE_TIMES)
    return sorted({Use(path, line, what) for line, what in _uses(tree, aligned, rows_are_times=rows_are_times)})


def _uses(tree: ast.Module, aligned: set[str], *, rows_are_times: bool) -> Iterator[tuple[int, str]]:
    # The last character of a text is cut off as the last bar is: the list of exceptions tells them apart, not this.
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if _is_named(name) and not _is_aligner(node.value, aligned):
                yield node.lineno, name
            case ast.ImportFrom(module=module, names=names) if not (module or "").startswith("qraft_quant.align"):
                yield from ((node.lineno, alias.name) for alias in names if _is_named(alias.name))
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]) if _is_named(name):
                yield node.lineno, name
            case ast.Slice(step=step) if _is_negative(step):
                yield node.lineno, f"[::{ast.unparse(step)}]"
            case ast.Slice(lower=lower, upper=upper) if _is_negative(upper):
                yield node.lineno, f"[{'' if lower is None else ast.unparse(lower)}:{ast.unparse(upper)}]"
            case ast.Subscript(slice=index) if rows_are_times:
                for part in index.elts if isinstance(index, ast.Tuple) else [index]:
                    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add | ast.Sub) and not _is_key(part):
                        yield node.lineno, "[i + n]" if isinstance(part.op, ast.Add) else "[i - n]"


def _is_named(name: str) -> bool:
    return name in NAMES or name.startswith(PREFIXES)


def _is_negative(node: ast.expr | None) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def _is_key(index: ast.BinOp) -> bool:
    """Return whether an index is put together of text, as the keys of dictionaries are: constants are in capitals."""
    return any(
        (isinstance(side, ast.Name) and side.id.isupper())
        or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (index.left, index.right)
    )


def _aligner_names(tree: ast.Module) -> set[str]:
    """Return the names under which the aligner itself is imported: `align.lag` is the way, not a way round it."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "qraft_quant"
        for alias in node.names
        if alias.name == "align"
    }


def _is_aligner(value: ast.expr, aligned: set[str]) -> bool:
    return isinstance(value, ast.Name) and value.id in aligned
