"""The frame of a page: head, style, body."""

from __future__ import annotations

from typing import Final

from qraft_screening.pages.words import text

# The look of the audit's page (qraft_data.audit.page), with colors that are read in the dark too.
_STYLE: Final = """
:root{color-scheme:light dark;--ok:light-dark(#176f42,#4fc78a);--bad:light-dark(#b3261e,#ff8f86);
--some:light-dark(#8a5a00,#e3b04b);--bar:light-dark(#3a66c4,#7ea6ff);--soft:light-dark(#5b6470,#a3adba);
--none:#8884;--line:#8883}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:84rem;padding:1.5rem}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:2rem 0 .4rem}
p{max-width:64rem}a{color:var(--bar)}
.verdict{font-weight:600}.selected,.proven,.stable{color:var(--ok)}.not_proven,.drift{color:var(--bad)}
.ended,.watch{color:var(--some)}.unknown{color:var(--soft)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}.wide{width:100%}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;white-space:nowrap}
th{font-weight:600}td.n,th.n{text-align:right}td.why{white-space:normal;min-width:18rem}
td.say{white-space:normal;overflow-wrap:anywhere;min-width:8rem}
.key{display:inline-block;width:.7em;height:.7em}
svg{display:block;max-width:none}svg text{fill:currentColor;font:11px system-ui,sans-serif}
svg .axis{stroke:var(--soft);stroke-width:1}svg .limit{stroke:var(--bad);stroke-dasharray:3 3}
svg .watch-line{stroke:var(--some);stroke-dasharray:3 3}svg .soft{fill:var(--soft)}
code{font-size:.87em;overflow-wrap:anywhere}small{color:var(--soft)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(14rem,1fr));gap:.3rem 1.5rem;margin:.5rem 0}
dl>div{border-bottom:1px solid var(--line);padding:.2rem 0}dt{color:var(--soft);font-size:.87em}
dd{margin:0;overflow-wrap:anywhere}.long{grid-column:1/-1}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(20.5rem,1fr));gap:0 2rem}.charts>section{min-width:0}
@media(max-width:40rem){body{padding:1rem}}
"""


def page(title: str, parts: list[str]) -> str:
    """Return a whole page; parts are HTML, the title is text."""
    body = "".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Qraft · {text(title)}</title><style>{_STYLE}</style><body><main>{body}</main></body></html>\n"
    )
