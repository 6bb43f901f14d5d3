"""What a proof found, column by column."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ColumnProof:
    """
    What was found for one column. n_checks counts comparisons in which at least one number was compared, n_moved those
    after which the column's future was another: a column that never moves does not read what was corrupted.
    """

    name: str
    n_checks: int
    failures: tuple[str, ...]
    n_moved: int = 0

    @property
    def passed(self) -> bool:
        """Return whether something was compared and nothing differed: no evidence is no pass."""
        return self.n_checks > 0 and not self.failures


@dataclass(frozen=True, slots=True)
class Proof:
    """The columns of one proof, in the order of the computation."""

    columns: tuple[ColumnProof, ...]

    @property
    def n_checks(self) -> int:
        """Return how many comparisons were made."""
        return sum(column.n_checks for column in self.columns)

    @property
    def passed(self) -> bool:
        """Return whether there are columns and all of them passed."""
        return bool(self.columns) and all(column.passed for column in self.columns)

    @property
    def failed_columns(self) -> tuple[str, ...]:
        """Return the names of the columns that did not pass."""
        return tuple(column.name for column in self.columns if not column.passed)


@dataclass(frozen=True, slots=True)
class ControlProof:
    """A computation whose answer is known before: is_leak says which. caught_by: the corruptions that found it."""

    name: str
    is_leak: bool
    n_checks: int
    caught_by: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Return whether the proof gave the known answer, on at least one comparison."""
        return self.n_checks > 0 and bool(self.caught_by) == self.is_leak
