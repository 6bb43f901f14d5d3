"""
A set of features that a person wrote into a file: no code, one line a feature.

    name = "mine"
    extends = "core"                # optional: a registered set whose features come first

    [trend]                         # a family
    gap_60 = "log(close) - mean(log(close), 60)"
    "slope_{n}" = { expression = "slope(log(close), {n})", n = [24, 96] }
    old_gap = { expression = "log(close) - mean(log(close), 30)", version = 2 }

JSON has the same shape. A line with lists is a feature for each combination of their values.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

from qraft_quant.features.catalog import N_FEATURES_MAX, FeatureSet, FeatureSpec

# A set of 4,096 features of 200 characters each.
LENGTH_MAX: Final = 1_000_000
_HOLE: Final = re.compile(r"\{([a-z_]+)\}")
_ABOUT: Final = ("name", "extends")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


def written_set(text: str, *, registered: Mapping[str, FeatureSet], is_json: bool = False) -> FeatureSet:
    """
    Return the set that a text in TOML (or JSON) means.

    Args:
        registered: the sets that may be extended, whose names are taken.

    Raises:
        ValueError: if the text has another form, an expression is none, or a name comes twice; the message says where
            and what was expected.
    """
    if len(text) > LENGTH_MAX:
        raise ValueError(f"expected at most {LENGTH_MAX} characters, received {len(text)}")
    try:
        content = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected {'JSON' if is_json else 'TOML'}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a table with name and families, received {type(content).__name__}")
    name, extends = content.get("name"), content.get("extends")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in registered:
        taken = ", ".join(sorted(registered))
        raise ValueError(f"expected a name like `{_NAME.pattern}` other than {taken}, received {name!r}")
    if extends is not None and (not isinstance(extends, str) or extends not in registered):
        raise ValueError(f"expected extends out of {', '.join(sorted(registered))}, received {extends!r}")
    features = list(registered[extends].features) if extends else []
    for family, lines in content.items():
        if family not in _ABOUT:
            features += _family(family, lines, n_left=N_FEATURES_MAX - len(features))
    return FeatureSet(name, tuple(features))


def _family(family: str, lines: object, *, n_left: int) -> list[FeatureSpec]:
    if not isinstance(lines, dict):
        raise ValueError(f"expected a table of features under the family {family}, received {lines!r}")
    found: list[FeatureSpec] = []
    for name, line in lines.items():
        where = f"{family}.{name}"
        content = {"expression": line} if isinstance(line, str) else line
        if not isinstance(content, dict) or not isinstance(content.get("expression"), str):
            raise ValueError(f"{where}: expected an expression, or a table with `expression`, received {line!r}")
        found += _specs(family, name, content, where, n_left=n_left - len(found))
    return found


def _specs(
    family: str, name: str, content: Mapping[str, Any], where: str, *, n_left: int
) -> Iterator[FeatureSpec]:  # fmt: skip
    version = content.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"{where}: expected a version from 1 on, received {version!r}")
    domains = {key: values for key, values in content.items() if key not in ("expression", "version")}
    expression = content["expression"]
    for key, values in domains.items():
        if not isinstance(values, list) or not values or not all(_is_value(value) for value in values):
            raise ValueError(f"{where}: expected a list of numbers or words for {key}, received {values!r}")
    holes = set(_HOLE.findall(expression)) | set(_HOLE.findall(name))
    if holes != set(domains):
        raise ValueError(f"{where}: expected a list for each of {sorted(holes)}, received {sorted(domains)}")
    if math.prod(len(values) for values in domains.values()) > n_left:
        raise ValueError(f"{where}: expected at most {N_FEATURES_MAX} features in a set, received more")
    for chosen in product(*domains.values()):
        filled = {key: str(value) for key, value in zip(domains, chosen, strict=True)}
        try:
            yield FeatureSpec(_filled(name, filled), family, _filled(expression, filled), version)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _is_value(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _HOLE.sub(lambda hole: values[hole[1]], text)
