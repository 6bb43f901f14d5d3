"""Put one computation to the proof: the past must not change with the future."""

from __future__ import annotations

from collections.abc import Sequence

from qraft_quant.proof.compare import Tally
from qraft_quant.proof.perturb import CORRUPTIONS, Compute, Tables, corrupt
from qraft_quant.proof.verdicts import Proof

# More failures of one column than this say nothing new.
CUT_OFFS_MAX = 64


def prove_subject(compute: Compute, tables: Tables, *, cut_offs: Sequence[int], seed: int) -> Proof:
    """
    Corrupt all that is known after each cut-off, every way; what is said of times up to it must keep every bit.

    Nothing may be said of times after the last at which something became known: a row is there when it is over.

    Args:
        compute: called with tables that it must not change.
        cut_offs: instants, int64 microseconds as in the tables; each with something known at or before it and after.
        seed: of the shuffle and the noise.

    Raises:
        ValueError: if there is no cut-off or one leaves no past or no future: a single timestamp proves nothing.
    """
    known = [table.known_at for table in tables.values() if len(table)]
    first, last = min((int(at[0]) for at in known), default=0), max((int(at[-1]) for at in known), default=0)
    if first == last:
        raise ValueError("expected at least two times at which something became known, received one or none")
    if not cut_offs or len(cut_offs) > CUT_OFFS_MAX or not all(first <= cut < last for cut in cut_offs):
        raise ValueError(f"expected 1 to {CUT_OFFS_MAX} cut-offs in [{first}, {last}), received {list(cut_offs)}")
    clean = compute(tables)
    tally = Tally(clean.names)
    if clean.at.size and clean.at[-1] > last:
        tally.note_all(clean, f"a row at {clean.at[-1]}, when nothing was known after {last}")
    for cut in cut_offs:
        for how in CORRUPTIONS:
            dirty = compute(corrupt(tables, cut, how=how, seed=seed))
            tally.compare(clean, dirty, until=cut, what=f"{how} after {cut}")
    return tally.result()
