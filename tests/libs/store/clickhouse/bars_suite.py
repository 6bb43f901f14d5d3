"""The tests of every BarStore, for modules that have their own fixture `store`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

# 400 inserts of one bar: eight seconds of statements for what the other tests say as well.
_TOO_MANY_STATEMENTS = "test_bulk_and_bar_by_bar_give_the_same_panel"


def suite_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return a module's tests of a store by name, but for one that is slow where every bar is a statement."""
    found = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    found.pop(_TOO_MANY_STATEMENTS, None)
    suite = {name: test for name, test in found.items() if "store" in inspect.signature(test).parameters}
    assert len(suite) > 6, f"expected the suite of every BarStore in {module.__name__}"
    return suite
