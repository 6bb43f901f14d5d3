"""Where one table lies: its manifest and new parts under the hot root, older parts perhaps under the cold one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qraft_store.tiers import check_tiers


@dataclass(frozen=True, slots=True)
class TableFolder:
    """The folders of one table. A part may stand under both for a moment: it is one file, named once."""

    hot: Path
    cold: Path | None = None

    def paths_of(self, file: str) -> list[Path]:
        """Return where a part may be; the first that is there holds its rows."""
        return [root / file for root in (self.hot, self.cold) if root is not None]

    def check(self) -> None:
        """
        Refuse to work on half of a table, or beside another lake's.

        Raises:
            Transient: if parts were moved to a cold root that was not given or is not there.
            Refused: if the cold root belongs to another lake.
        """
        check_tiers(self.hot, self.cold)
