"""The operator's commands on screenings: screen, watch, page. They need the extra `research`; the service does not."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Refused
from qraft_contracts.subjects import HORIZON_SECONDS, INTERVAL_SECONDS
from qraft_quant.features import FeatureSet, FeatureSpec
from qraft_screening.drift import DriftReference, DriftVerdict, decode_reference, encode_reference
from qraft_screening.pages import Operator, ProofNote, feature_page, set_page
from qraft_screening.pages.instants import instant
from qraft_screening.panel import FeaturePanel
from qraft_screening.report import AutomaticProof, Screening, Source, decode_screening, encode_screening, with_proof
from qraft_screening.screen import Asked, screen
from qraft_screening.thresholds import Thresholds
from qraft_screening.watch import Watch, decode_watch, encode_watch, watch
from qraft_store.files import write_whole

EXIT_NOT_PROVEN: Final = 3
REPORT: Final = "report.json"
REFERENCE: Final = "drift-reference.json"
WATCH: Final = "watch.json"
INDEX: Final = "index.html"
PAGES: Final = "features"
ReadPanel = Callable[[datetime, datetime], tuple[FeaturePanel, Source]]
# (key, bytes) -> SHA-256; of the artefact store.
Keep = Callable[[str, bytes], str]
Notes = Mapping[str, ProofNote]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a screening lies: report, drift reference, what was watched since, and the pages."""

    path: Path

    def report(self) -> Screening:
        """
        Return the report.

        Raises:
            Refused: if there is none, or it is none.
        """
        return self._decoded(REPORT, decode_screening)

    def reference(self) -> DriftReference:
        """Return the bins to measure drift against; errors as in report."""
        return self._decoded(REFERENCE, decode_reference)

    def watched(self) -> Watch | None:
        """Return what was watched since, None if nothing was; errors as in report."""
        return self._decoded(WATCH, decode_watch) if (self.path / WATCH).exists() else None

    def write(self, name: str, data: bytes) -> None:
        """
        Put a file in place, whole or not at all.

        Raises:
            Transient: if it cannot be written.
        """
        write_whole(self.path / name, lambda file: file.write(data))

    def _decoded(self, name: str, decode: Callable[[bytes], Found]) -> Found:
        place = self.path / name
        try:
            return decode(place.read_bytes())
        except OSError as error:
            raise Refused("no_report", f"expected {place}: {error}; run `qraft features screen` first") from error
        except ValueError as error:
            raise Refused("no_report", f"{place}: {error}") from error


@dataclass(frozen=True, slots=True)
class Question:
    """What a command is about. automatic: window_bars and every_bars of automatic features; empty = none."""

    folder: Folder
    features: FeatureSet
    market: str
    interval: str
    horizon: str
    start: datetime
    until: datetime
    origin: Origin
    automatic: dict[str, int]


def question(options: argparse.Namespace, *, reports: Path, named: Callable[[str], FeatureSet]) -> Question:
    """
    Return what `screen` asks, or, for the other commands, what the report at hand was asked.

    Args:
        named: from the name of a feature set to the set.

    Raises:
        Refused: if there is no such report, or its features are no longer those of that name.
        Malformed: if the window ends before it begins.
    """
    if options.command == "screen":
        made = _asked(options, reports, named(options.set))
    else:
        made = _of_report(Folder(options.report), named, until=getattr(options, "until", None))
    if options.command != "page" and made.start >= made.until:
        raise Malformed("bad_window", f"expected a window that ends after {made.start}, received {made.until}")
    return made


def run_screen(
    read: ReadPanel, notes: Notes, asked: Question, *, seed: int, n_threads: int, keep: Keep,
    prove: Callable[[], AutomaticProof] | None,
) -> int:  # fmt: skip
    """
    Screen, write report, reference and pages, keep the report as an artefact, print where it lies.

    Args:
        prove: puts automatic features to the leakage proof; None = there are none.

    Returns:
        0, or 3 where an automatic feature did not pass its proof.

    Raises:
        Refused, Malformed, Transient: as reading and writing say.
    """
    n_bars, features = horizon_bars(asked.horizon, asked.interval), asked.features
    panel, source = read(asked.start, asked.until)
    say(f"{panel.closed_at.size:,} bars × {len(panel.symbols)} symbols × {len(panel.names)} features")
    wanted = Asked(features.name, features.signature(asked.interval), source, asked.horizon, n_bars, seed)
    found = screen(panel, wanted, thresholds=Thresholds(), n_threads=n_threads, progress=say)
    proof = None if prove is None else prove()
    screening = with_proof(found.screening, proof)
    data, folder = encode_screening(screening), asked.folder
    folder.write(REPORT, data)
    folder.write(REFERENCE, encode_reference(found.reference))
    (folder.path / WATCH).unlink(missing_ok=True)  # it was of another report
    _write_pages(asked, screening, None, notes, names=_names(screening))
    key = f"screenings/{screening.feature_signature}/{hashlib.sha256(data).hexdigest()[:16]}.json"
    _print(
        event="features.screened", report=str(folder.path / REPORT), page=str(folder.path / INDEX), key=key,
        sha256=keep(key, data), counts=screening.counts, unproven=[] if proof is None else list(proof.failed),
    )  # fmt: skip
    return EXIT_NOT_PROVEN if proof is not None and proof.failed else 0


def run_watch(read: ReadPanel, notes: Notes, asked: Question) -> int:
    """
    Measure drift and IC of the bars after a screening's window, and write its pages again.

    Raises:
        Refused, Malformed, Transient: as reading and writing say.
    """
    screening, folder = asked.folder.report(), asked.folder
    panel, source = read(asked.start, asked.until)
    found = watch(panel, folder.reference(), source, horizon_bars=screening.horizon_bars)
    folder.write(WATCH, encode_watch(found))
    _write_pages(asked, screening, found, notes, names=_names(screening))
    drifted = [it.name for it in found.features if any(month.verdict == DriftVerdict.DRIFT for month in it.drift)]
    _print(
        event="features.watched", watch=str(folder.path / WATCH), page=str(folder.path / INDEX),
        n_features=len(found.features), n_drifted=len(drifted),
    )  # fmt: skip
    return 0


def run_page(notes: Notes, asked: Question, *, name: str | None) -> int:
    """
    Write the page of one feature, or all pages, of a screening again.

    Raises:
        Refused: if there is no such feature.
        Transient: if a page cannot be written.
    """
    screening, folder = asked.folder.report(), asked.folder
    names = _names(screening)
    if name is not None and name not in names:
        alike = [it for it in names if name.split("_")[0] in it] or names
        raise Refused("no_feature", f"expected a screened feature such as {', '.join(alike[:12])}, received {name}")
    _write_pages(asked, screening, folder.watched(), notes, names=names if name is None else [name])
    _print(event="features.page", page=str(folder.path / (INDEX if name is None else f"{PAGES}/{name}.html")))
    return 0


def horizon_bars(horizon: str, interval: str) -> int:
    """
    Return the bars of a horizon.

    Raises:
        Malformed: if it is no multiple of the interval.
    """
    seconds, step = HORIZON_SECONDS[horizon], INTERVAL_SECONDS[interval]
    if seconds % step:
        fitting = [name for name, it in HORIZON_SECONDS.items() if it % step == 0]
        raise Malformed("bad_horizon", f"expected a multiple of {interval} such as {fitting}, received {horizon}")
    return seconds // step


def say(line: str) -> None:
    """Tell the operator how far it is."""
    sys.stderr.write(f"{line}\n")


def _asked(options: argparse.Namespace, reports: Path, features: FeatureSet) -> Question:
    automatic = {"window_bars": options.automatic_window, "every_bars": options.automatic_every}
    window = f"{options.start:%Y%m%dT%H%M}-{options.until:%Y%m%dT%H%M}"
    what = f"{features.name}+automatic" if options.automatic else features.name
    # The same question, the same folder.
    folder = Folder(reports / "features" / f"{options.market}-{options.interval}-{what}-{options.horizon}-{window}")
    return Question(
        folder, features, options.market, options.interval, options.horizon, options.start, options.until,
        Origin.REPLAY, automatic if options.automatic else {},
    )  # fmt: skip


def _of_report(folder: Folder, named: Callable[[str], FeatureSet], *, until: datetime | None) -> Question:
    screening = folder.report()
    source, proof = screening.source, screening.proof
    features = named(screening.feature_set)
    if features.signature(source.interval) != screening.feature_signature:
        raise Refused(
            "other_features",
            f"expected the features of signature {screening.feature_signature[:16]}, {screening.feature_set} is now "
            f"{features.signature(source.interval)[:16]}: screen anew",
        )
    end = instant(source.until_us)
    return Question(
        folder, features, source.market, source.interval, screening.horizon, end, until or end, Origin(source.origin),
        {} if proof is None else {"window_bars": proof.window_bars, "every_bars": proof.every_bars},
    )  # fmt: skip


def _names(screening: Screening) -> list[str]:
    return [it.name for it in screening.features]


def _write_pages(
    asked: Question, screening: Screening, watched: Watch | None, notes: Notes, *, names: Sequence[str]
) -> None:  # fmt: skip
    specs, folder = {it.name: it for it in asked.features.features}, asked.folder
    folder.write(INDEX, set_page(screening, link=lambda name: f"{PAGES}/{name}.html").encode())
    for name in names:
        found = screening.feature(name)
        assert found is not None, name
        text = feature_page(
            screening,
            found,
            proof=notes.get(name) or automatic_note(screening, name),
            operators=operators_of(specs[name]) if name in specs else (),
            later=None if watched is None else watched.feature(name),
        )
        folder.write(f"{PAGES}/{name}.html", text.encode())


def automatic_note(screening: Screening, name: str) -> ProofNote:
    """Return what the report says of the proof of a feature that the catalogue does not have."""
    if screening.proof is None:
        return ProofNote("", 0, "nothing was proven of it")
    fault = "its past changed with the future" if name in screening.proof.failed else None
    return ProofNote("in the report of this screening", screening.proof.n_checks // screening.proof.n_columns, fault)


def operators_of(spec: FeatureSpec) -> list[Operator]:
    """Return the operators of a feature's formula as its page shows them."""
    return [
        Operator(
            str(it["name"]), str(it["formula"]), json.dumps(it["parameters"]) if it.get("parameters") else ""
        )
        for it in spec.content["operators"]
    ]  # fmt: skip


def _print(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
