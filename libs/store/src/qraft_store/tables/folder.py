"""Where one table lies: its manifest and new parts under the hot root, older parts perhaps under the cold one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qraft_contracts.outcomes import Transient

TIERED: Final = ".tiered"  # an empty file beside the manifest: some of its parts lie in a cold root


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
        Refuse to work on half of a table.

        Raises:
            Transient: if parts were moved to a cold root that was not given or is not there.
        """
        if (self.hot / TIERED).exists() and (self.cold is None or not self.cold.is_dir()):
            where = self.cold or "a cold root"
            raise Transient(
                "lake_cold_missing",
                f"expected the older rows of {self.hot} in {where}: set QRAFT_LAKE_COLD to its cold root, or mount it",
            )
