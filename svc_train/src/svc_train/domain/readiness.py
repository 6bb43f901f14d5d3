"""Whether an audit lets a run train, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from qraft_contracts.snapshots import moved_sources
from qraft_data.audit.findings import Audit, Verdict
from qraft_data.audit.mending import merged_commands

# Enough to see what is wrong; the audit's page holds all.
_NAMED_MAX: Final = 8


def refusal(audit: Audit, *, interval: str) -> str | None:
    """Return why the audit says no, None if it says yes: the verdict, what is missing, the commands that mend it."""
    if audit.ready:
        return None
    wanting = [it for it in audit.required if it.verdict is not Verdict.READY]
    said = [f"{it.kind} {it.market} {it.symbol}".strip() + f": {'; '.join(it.reasons)}" for it in wanting[:_NAMED_MAX]]
    if len(wanting) > _NAMED_MAX:
        said.append(f"and {len(wanting) - _NAMED_MAX} series more")
    again = f"qraft data audit --mode {audit.mode} --market {audit.market} --interval {interval} --until {audit.end}"
    mend = merged_commands([it.mend for it in wanting if it.mend])
    return (
        f"mode {audit.mode}, {audit.market} {audit.start} to {audit.end}: expected every required series ready, "
        f"received {audit.n_ready} of {audit.n_required}: {'. '.join(said) or 'nothing is stored'}. "
        f"To mend it: {'; '.join(mend) or 'none of these can be collected'}; to see all of it: {again}. "
        "QRAFT_TRAIN_MODE=line trains without being ready, and says so"
    )


def moved(audit: Audit, versions: Mapping[str, str]) -> list[str]:
    """
    Return the sources of a snapshot that the audit is not about; see moved_sources.

    Args:
        versions: of the snapshot, `bars/<interval>/<market>` and `tables/<kind>/<market>` to version.
    """
    return moved_sources(audit.versions, versions)
