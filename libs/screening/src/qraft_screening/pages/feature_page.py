"""The page of one feature: what it is, whether it leaks, what it says, for how long, and whether it has drifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from qraft_contracts.times import format_instant
from qraft_screening.drift import PSI_DRIFT, PSI_WATCH, DriftVerdict
from qraft_screening.findings import SELECTED
from qraft_screening.half_life import Decay
from qraft_screening.pages.charts import bars, curve
from qraft_screening.pages.frame import page
from qraft_screening.pages.instants import instant
from qraft_screening.pages.words import english, facts, number, row, text, word
from qraft_screening.report import FeatureFinding, MonthDrift, MonthInformation, Screening
from qraft_screening.watch import FeatureWatch

# From so many months on the IC is shown by year.
_YEARS_FROM_MONTHS: Final = 24
_COLOR: Final = {
    DriftVerdict.STABLE: "var(--ok)", DriftVerdict.WATCH: "var(--some)", DriftVerdict.DRIFT: "var(--bad)",
    DriftVerdict.UNKNOWN: "var(--none)",
}  # fmt: skip
_LATER_COLOR: Final = "var(--soft)"


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator in the formula. parameters: JSON Schema of each, as text; empty if it has none."""

    name: str
    formula: str
    parameters: str


@dataclass(frozen=True, slots=True)
class ProofNote:
    """What is known of the leakage proof. key: of the artefact, empty where there is none. fault: None if it stands."""

    key: str
    n_checks: int
    fault: str | None


def feature_page(
    screening: Screening, found: FeatureFinding, *, proof: ProofNote, operators: Sequence[Operator] = (),
    later: FeatureWatch | None = None,
) -> str:  # fmt: skip
    """Return the page; equal findings give equal pages."""
    ended = "" if found.stage == SELECTED else f"{word('dropped')}: "
    css = "selected" if found.stage == SELECTED else "ended"
    return page(
        found.name,
        [
            f'<p><a href="../index.html">← {word("back")}</a></p><h1>{text(found.name)}</h1>',
            f'<p><span class="verdict {css}">{ended}{word(found.stage)}</span><br>{text(found.reason)}</p>',
            _definition(screening, found, operators),
            _proof(proof),
            _information(screening, found, later),
            _coverage(screening, found),
            _data(screening),
        ],
    )


def _definition(screening: Screening, found: FeatureFinding, operators: Sequence[Operator]) -> str:
    parts = [
        f"<h2>{word('definition')}</h2>",
        facts([
            (word("formula"), f"<code>{text(found.formula)}</code>"),
            (word("family"), text(found.family)),
            (word("bars"), f"{found.window:,} × {text(screening.source.interval)}"),
            (word("signature"), f"<code>{text(found.signature or screening.feature_signature)}</code>"),
        ]),
    ]  # fmt: skip
    if operators:
        rows = "".join(
            row(
                f"<code>{text(it.name)}</code>",
                f"<code>{text(it.formula)}</code>",
                f"<code>{text(it.parameters)}</code>",
            )
            for it in operators
        ).replace("<td>", '<td class="say">')
        parts.append(f'<h2>{word("operators")}</h2><div class="scroll"><table>{rows}</table></div>')
    return "".join(parts)


def _proof(proof: ProofNote) -> str:
    state = "proven" if proof.fault is None else "not_proven"
    said = [(word("proof"), f'<span class="verdict {state}">{word(state)}</span>')]
    if proof.fault is not None:
        said.append((word("reason"), text(proof.fault)))
    if proof.key:
        said += [(word("checks"), f"{proof.n_checks:,}"), (word("artefact"), f"<code>{text(proof.key)}</code>")]
    return f"<h2>{word('proof')}</h2>{facts(said)}"


def _information(screening: Screening, found: FeatureFinding, later: FeatureWatch | None) -> str:
    n_parts = screening.thresholds.n_parts
    figures = facts([
        (word("ic"), number(found.ic, "+.4f")),
        (word("error"), number(found.error, ".4f")),
        (word("t"), number(found.t, "+.2f")),
        (word("p"), number(found.p, ".2g")),
        (word("q"), number(found.q, ".2g")),
        (word("ir"), number(found.ir, "+.3f")),
        (word("same_sign"), f"{number(found.same_sign_parts, 'd')} / {n_parts}"),
        (word("half_life"), half_life_text(screening, found)),
    ])  # fmt: skip
    charts = [_by_time(found.months, () if later is None else later.months)]
    if found.by_age:
        drawn = curve([_short(age) for age in screening.ages], found.by_age, what=english("ic"), form="+.3f")
        charts.append(f"<section><h2>{word('decay')}</h2>{drawn}<small>{word('age')}</small></section>")
    charts.append(_drift(found.drift, () if later is None else later.drift))
    head = f"<h2>{word('measured')} · {text(screening.horizon)}</h2>"
    return f'{head}{figures}<div class="charts">{"".join(charts)}</div>'


def half_life_text(screening: Screening, found: FeatureFinding) -> str:
    """Return the half-life with its unit, or why there is none, as HTML."""
    if found.decay == Decay.FITTED and found.half_life_bars is not None:
        return f"{found.half_life_bars:.3g} {english('bars')}"
    if found.decay == Decay.NO_DECAY_SEEN:
        return f"{word('no_decay_seen')} ({screening.ages[-1]:,} {english('bars')})"
    return word(found.decay)


def _by_time(months: Sequence[MonthInformation], later: Sequence[MonthInformation]) -> str:
    whole = [(it, False) for it in months] + [(it, True) for it in later]
    is_years = len(whole) >= _YEARS_FROM_MONTHS
    points: list[tuple[str, float | None, bool]] = (
        [(year, _mean([it for it, _ in part]), part[-1][1]) for year, part in _years(whole)]
        if is_years
        else [
            (name, it.ic, is_later)
            for name, (it, is_later) in zip(_labels([it.month for it, _ in whole]), whole, strict=True)
        ]
    )
    if not points:
        return ""
    drawn = bars(
        [it[0] for it in points], [it[1] for it in points], what=english("ic"), form="+.3f",
        colors=[_LATER_COLOR if it[2] else "var(--bar)" for it in points],
    )  # fmt: skip
    note = f"<small>{word('later')}</small>" if later else ""
    head = f"<h2>{word('ic_years' if is_years else 'ic_months')}</h2>"
    return f"<section>{head}{drawn}{_legend(_LATER_COLOR, note)}</section>"


def _years(
    whole: Sequence[tuple[MonthInformation, bool]],
) -> list[tuple[str, list[tuple[MonthInformation, bool]]]]:
    return [(year, list(part)) for year, part in groupby(whole, key=lambda it: it[0].month[:4])]


def _mean(months: Sequence[MonthInformation]) -> float | None:
    known = [(it.n, it.ic) for it in months if it.ic is not None and it.n]
    n = sum(weight for weight, _ in known)
    return sum(weight * ic for weight, ic in known) / n if n else None


def _labels(months: Sequence[str]) -> list[str]:
    """Return short names of months: with the year where it begins."""
    return [
        f"{month[2:4]}-{month[5:]}" if i == 0 or month.endswith("-01") else month[5:] for i, month in enumerate(months)
    ]


def _drift(inside: Sequence[MonthDrift], later: Sequence[MonthDrift]) -> str:
    whole = [*inside, *later]
    if not whole:
        return ""
    drawn = bars(
        _labels([it.month for it in whole]), [it.psi for it in whole], what="PSI", form=".2f",
        colors=[_COLOR[DriftVerdict(it.verdict)] for it in whole],
        limits=((PSI_WATCH, "watch-line"), (PSI_DRIFT, "limit")),
    )  # fmt: skip
    rows = "".join(
        row(
            text(it.month) + (" *" if i >= len(inside) else ""),
            number(it.psi, ".3f"),
            number(it.ks, ".3f"),
            f'<span class="verdict {it.verdict}">{_drift_word(it.verdict)}</span>',
            numeric=frozenset({1, 2}),
        )
        for i, it in enumerate(whole)
    )
    head = row(word("month"), word("psi"), word("ks"), word("verdict"), head=True, numeric=frozenset({1, 2}))
    note = "months of the window's second half against its first half"
    if later:
        note += f"; * {word('later')}, against the whole window"
    return (
        f"<section><h2>{word('drift')} · PSI</h2>{drawn}<small>{note}</small>"
        f'<div class="scroll"><table>{head}{rows}</table></div></section>'
    )


def _drift_word(verdict: str) -> str:
    return word("drift_verdict" if verdict == DriftVerdict.DRIFT else verdict)


def _legend(color: str, note: str) -> str:
    if not note:
        return ""
    return f'<span class="key" style="background:{color}"></span> {note}'


def _coverage(screening: Screening, found: FeatureFinding) -> str:
    numeric = frozenset(range(1, len(screening.source.symbols) + 1))
    head = row(word("month"), *(text(it) for it in screening.source.symbols), head=True, numeric=numeric)
    rows = "".join(
        row(text(month), *(_share(it) for it in shares), numeric=numeric)
        for month, shares in zip(screening.months, found.coverage, strict=True)
    )
    return f'<h2>{word("coverage")}</h2><div class="scroll"><table>{head}{rows}</table></div>'


def _share(share: float) -> str:
    css = "stable" if share >= 0.995 else "watch" if share > 0.5 else "drift"
    return f'<span class="{css}">{share:.1%}</span>'


def _data(screening: Screening) -> str:
    it = screening.source
    return f"<h2>{word('data')}</h2>" + facts([
        (word("window"), f"{format_instant(instant(it.after_us))} … {format_instant(instant(it.until_us))}"),
        ("market", f"{text(it.market)} {text(it.interval)}, {text(it.origin)}, {it.n_bars:,} {english('bars')}"),
        ("SHA-256", f"<code>{text(it.data_sha256)}</code>"),
    ])  # fmt: skip


def _short(age: int) -> str:
    return str(age) if age < 1_000 else f"{age / 1_000:.1f}k"
