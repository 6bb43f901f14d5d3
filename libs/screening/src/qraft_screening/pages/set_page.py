"""The page of a screening: what was read, what was left after each stage, and every feature with its reason."""

from __future__ import annotations

from collections.abc import Callable

from qraft_contracts.times import format_instant
from qraft_screening.findings import SELECTED, STAGES
from qraft_screening.half_life import Decay
from qraft_screening.pages.frame import page
from qraft_screening.pages.instants import instant
from qraft_screening.pages.words import facts, number, row, text, word
from qraft_screening.report import FeatureFinding, Screening


def set_page(screening: Screening, *, link: Callable[[str], str] | None) -> str:
    """Return the page. link: from the name of a feature to the address of its page; None = there are none."""
    source = screening.source
    return page(
        f"screening of {screening.feature_set}",
        [
            f"<h1>{word('title')}: {text(screening.feature_set)}, {text(source.market)} {text(source.interval)}, "
            f"{text(screening.horizon)}</h1>",
            f'<p><span class="verdict selected">{screening.counts["model"]} {word("selected")}</span> · '
            f"{screening.counts['screened']} {word('screened')}</p>",
            _funnel(screening),
            _models(screening),
            _features(screening, link),
            _clusters(screening, link),
            _components(screening, link),
            _data(screening),
        ],
    )


def _funnel(screening: Screening) -> str:
    return f"<h2>{word('funnel')}</h2>" + facts(
        [(word(stage), f"{screening.counts[stage]:,}") for stage in ("screened", *STAGES)]
    )


def _models(screening: Screening) -> str:
    numeric = frozenset({1, 2, 3, 5})
    head = row(
        word("model"), "R²", word("t"), word("penalty"), word("folds"), word("kept"), head=True, numeric=numeric
    )  # fmt: skip
    rows = "".join(
        row(
            text(it.name.replace("_", " ")), f"{it.r2:+.5f}", number(it.t, "+.2f"), f"{it.penalty_frac:.3g}",
            " ".join(f"{r2:+.5f}" for r2 in it.r2_of_folds), str(it.n_kept), numeric=numeric,
        )
        for it in screening.models
    )  # fmt: skip
    table = f'<div class="scroll"><table>{head}{rows}</table></div>' if rows else ""
    note = f"<p>{text(screening.models_note)}</p>" if screening.models_note else ""
    return f"<h2>{word('models')}</h2>{table}{note}"


def _features(screening: Screening, link: Callable[[str], str] | None) -> str:
    numeric = frozenset({2, 3, 4, 5, 6, 7})
    head = row(
        word("feature"), word("verdict"), word("ic"), word("t"), word("q"), word("half_life"), word("psi"),
        word("known"), word("family"), word("reason"), head=True, numeric=numeric,
    )  # fmt: skip
    ordered = sorted(screening.features, key=_order)
    rows = "".join(
        row(
            _name(it.name, link),
            f'<span class="verdict {"selected" if it.stage == SELECTED else "ended"}">{word(it.stage)}</span>',
            number(it.ic, "+.4f"),
            number(it.t, "+.2f"),
            number(it.q, ".2g"),
            _short_half_life(screening, it),
            number(it.median_psi, ".2f"),
            f"{it.known_frac:.1%}",
            text(it.family),
            text(it.reason),
            numeric=numeric,
        )
        for it in ordered
    )
    return f'<h2>{word("features")}</h2><div class="scroll"><table class="wide">{head}{rows}</table></div>'


def _short_half_life(screening: Screening, it: FeatureFinding) -> str:
    if it.decay == Decay.FITTED and it.half_life_bars is not None:
        return f"{it.half_life_bars:.3g}"
    return f"&gt; {screening.ages[-1]:,}" if it.decay == Decay.NO_DECAY_SEEN else "–"


def _order(it: FeatureFinding) -> tuple[int, float, str]:
    """Those that came furthest first, then by how sure the information is."""
    stages = (SELECTED, *reversed(STAGES))
    return stages.index(it.stage), -abs(it.t or 0.0), it.name


def _clusters(screening: Screening, link: Callable[[str], str] | None) -> str:
    several = [it for it in screening.clusters if len(it.members) > 1]
    if not several:
        return ""
    head = row(word("representative"), word("members"), head=True)
    rows = "".join(
        f"<tr><td>{_name(it.representative, link) if it.representative else '–'}</td>"
        f'<td class="why">{", ".join(_name(name, link) for name in it.members)}</td></tr>'
        for it in several
    )
    return f'<h2>{word("clusters")}</h2><div class="scroll"><table class="wide">{head}{rows}</table></div>'


def _components(screening: Screening, link: Callable[[str], str] | None) -> str:
    if not screening.components:
        return ""
    head = row("", word("share"), word("loadings"), head=True, numeric=frozenset({1}))
    rows = "".join(
        row(
            str(k), f"{it.share:.1%}", ", ".join(f"{_name(name, link)} {weight:+.2f}" for name, weight in it.loadings),
            numeric=frozenset({1}),
        )
        for k, it in enumerate(screening.components, 1)
    )  # fmt: skip
    note = f"<p>90 %: {screening.n_for_90}</p>"
    return f'<h2>{word("components")}</h2>{note}<div class="scroll"><table>{head}{rows}</table></div>'


def _data(screening: Screening) -> str:
    it = screening.source
    lines = ", ".join(
        f"{name} {getattr(screening.thresholds, name):g}" for name in screening.thresholds.__struct_fields__
    )
    days = screening.block_us / 86_400_000_000
    said = [
        (word("window"), f"{format_instant(instant(it.after_us))} … {format_instant(instant(it.until_us))}"),
        (word("symbols"), text(", ".join(it.symbols))),
        (word("horizon"), f"{text(screening.horizon)} = {screening.horizon_bars:,} × {text(it.interval)}"),
        ("origin", text(it.origin)),
        ("ranks", text(screening.ranked)),
        ("Newey-West", f"lag {screening.lag_blocks} of {screening.n_blocks} blocks of {days:g} d"),
        ("SHA-256", f"<code>{text(it.data_sha256)}</code>"),
        (word("signature"), f"<code>{text(screening.feature_signature)}</code>"),
        (word("thresholds"), text(lines)),
        (word("versions"), text(", ".join(f"{name} {said}" for name, said in sorted(screening.versions.items())))),
    ]
    return f"<h2>{word('data')}</h2>{facts(said)}"


def _name(name: str, link: Callable[[str], str] | None) -> str:
    return text(name) if link is None else f'<a href="{text(link(name))}">{text(name)}</a>'
