"""The acceptance matrix as a table in a terminal and as one HTML file that needs nothing else."""

from __future__ import annotations

from html import escape
from typing import Final

from svc_imagegen.domain.acceptance import CHECKS, CellResult, Matrix, Verdict

_CLASSES: Final = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "failed",
    Verdict.NOT_COUNTED: "simulated",
    Verdict.UNSUPPORTED: "unsupported",
}
_COLUMNS: Final = ("provider", "model", "cell", "verdict", "charged", "seconds", "reason")
_REASON_CHARS_MAX: Final = 90

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Acceptance matrix · 验收矩阵</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #1c2024; background: #fff; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #d8dde3; vertical-align: top; }}
.passed td:nth-child(4) {{ color: #0a6b3d; font-weight: 600; }}
.failed td:nth-child(4) {{ color: #b3261e; font-weight: 600; }}
.simulated td:nth-child(4) {{ color: #8a5a00; font-weight: 600; }}
.unsupported {{ color: #68717a; }}
code {{ font-size: .85em; overflow-wrap: anywhere; }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #e6e9ec; background: #14171a; }} th, td {{ border-color: #333a41; }}
  .passed td:nth-child(4) {{ color: #5fd39b; }} .failed td:nth-child(4) {{ color: #ff8a80; }}
  .simulated td:nth-child(4) {{ color: #ffc857; }}
}}
</style></head><body>
<h1>Acceptance matrix · 验收矩阵</h1>
<p><strong>{headline}</strong></p>
<p>{gateway} · {began_at} – {ended_at} · {charged} credits charged · 已扣 {charged} 点</p>
<p>A cell counts only if its price is known, the key valid, the cost confirmed, nothing simulated, and the picture
was downloaded with the right SHA-256. Simulated cells are shown and never counted.<br>
只有价格已知、密钥有效、费用已确认、非模拟、且图片已下载并通过 SHA-256 校验的项目才计入；模拟结果仅展示，不计入。</p>
<table><thead><tr>
<th>Provider · 渠道</th><th>Model · 模型</th><th>Cell · 项目</th><th>Verdict · 结论</th><th>Checks · 检查</th>
<th>Credits · 点数</th><th>Seconds · 秒</th><th>Job, SHA-256 · 任务</th><th>Reason · 原因</th>
</tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def headline(matrix: Matrix) -> str:
    """Return the result as one sentence."""
    word = "ACCEPTED" if matrix.is_accepted else "NOT ACCEPTED"
    return (
        f"{word}: {matrix.n_passed} passed, {matrix.n_failed} failed, {matrix.n_not_counted} not counted (simulated), "
        f"{matrix.n_unsupported} unsupported"
    )


def table(matrix: Matrix) -> str:
    """Return the matrix as text, one line a cell."""
    rows = [_COLUMNS, *(_row(it) for it in matrix.results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", headline(matrix)])


def page(matrix: Matrix) -> str:
    """Return the matrix as one HTML document."""
    return _PAGE.format(
        headline=escape(headline(matrix)),
        gateway=escape(matrix.gateway),
        began_at=escape(matrix.began_at),
        ended_at=escape(matrix.ended_at),
        charged=escape(matrix.charged_credits),
        rows="\n".join(_html_row(it) for it in matrix.results),
    )


def _row(result: CellResult) -> tuple[str, ...]:
    reason = " ".join(result.reason.split())
    return (
        result.provider,
        result.model,
        result.cell,
        result.verdict.value,
        result.charged_credits or "-",
        f"{result.elapsed_s:.1f}" if result.elapsed_s is not None else "-",
        reason if len(reason) <= _REASON_CHARS_MAX else f"{reason[: _REASON_CHARS_MAX - 1]}…",
    )


def _html_row(result: CellResult) -> str:
    checks = "<br>".join(
        f"{'✓' if result.checks[name] else '✗'} {escape(name)}" for name in CHECKS if name in result.checks
    )
    proof = "<br>".join(f"<code>{escape(it)}</code>" for it in (result.job_id or "", *result.asset_sha256s) if it)
    cells = (
        escape(result.provider),
        escape(result.model),
        escape(result.cell),
        escape(result.verdict.value),
        checks,
        escape(result.charged_credits or "–"),
        f"{result.elapsed_s:.1f}" if result.elapsed_s is not None else "–",
        proof,
        escape(result.reason),
    )
    return f'<tr class="{_CLASSES[result.verdict]}">{"".join(f"<td>{it}</td>" for it in cells)}</tr>'
