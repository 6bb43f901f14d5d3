"""What the pages say, in English and Chinese, and how they write numbers."""

from __future__ import annotations

import html
from typing import Final

_WORDS: Final = {
    "title": ("Feature screening", "特征筛选"),
    "feature": ("feature", "特征"),
    "family": ("family", "类别"),
    "window": ("training window", "训练窗口"),
    "horizon": ("horizon", "预测周期"),
    "data": ("What was read", "所读数据"),
    "funnel": ("What is left after each stage", "各阶段剩余特征"),
    "screened": ("screened", "参与筛选"),
    "missing": ("missing", "缺失"),
    "variance": ("variance", "方差"),
    "stability": ("stability", "稳定性"),
    "information": ("information", "信息"),
    "cluster": ("cluster", "聚类"),
    "model": ("model", "模型"),
    "selected": ("selected", "入选"),
    "dropped": ("ended at", "止于"),
    "features": ("All features", "全部特征"),
    "verdict": ("verdict", "结论"),
    "reason": ("why", "原因"),
    "ic": ("rank IC", "秩相关 IC"),
    "t": ("robust t", "稳健 t 值"),
    "q": ("false discovery rate", "错误发现率"),
    "p": ("p-value", "p 值"),
    "error": ("robust error", "稳健标准误"),
    "ir": ("IR, one block", "单期 IR"),
    "half_life": ("half-life", "信息半衰期"),
    "psi": ("PSI", "PSI"),
    "measured": ("Information", "信息含量"),
    "age": ("age of the value in bars", "取值滞后（根K线）"),
    "ks": ("KS", "KS"),
    "known": ("known", "已知比例"),
    "models": ("Linear models on unseen rows", "样本外线性模型"),
    "penalty": ("penalty", "惩罚强度"),
    "kept": ("kept", "保留数"),
    "folds": ("each fold", "各折"),
    "components": ("Principal components", "主成分"),
    "share": ("share of variance", "方差占比"),
    "loadings": ("heaviest features", "主要载荷"),
    "clusters": ("Clusters of several", "多特征聚类"),
    "representative": ("representative", "代表特征"),
    "members": ("members", "成员"),
    "definition": ("Definition", "定义"),
    "formula": ("formula", "公式"),
    "bars": ("bars", "K线根数"),
    "signature": ("signature", "签名"),
    "operators": ("Operators and parameters", "算子与参数"),
    "proof": ("Leakage proof", "泄漏证明"),
    "proven": ("proven", "已证明"),
    "not_proven": ("not proven", "未证明"),
    "artefact": ("artefact", "存档"),
    "checks": ("comparisons", "比较次数"),
    "coverage": ("Coverage by month and symbol", "按月与标的覆盖率"),
    "ic_months": ("Rank IC by month", "逐月秩相关 IC"),
    "ic_years": ("Rank IC by year", "逐年秩相关 IC"),
    "decay": ("How fast it fades", "信息衰减"),
    "drift": ("Drift", "漂移"),
    "later": ("after the training window", "训练窗口之后"),
    "same_sign": ("parts with the same sign", "同号区间数"),
    "stable": ("stable", "稳定"),
    "watch": ("watch", "关注"),
    "drift_verdict": ("drift", "漂移"),
    "unknown": ("unknown", "未知"),
    "no_information": ("no information whose life could be measured", "没有可测量的信息"),
    "no_decay_seen": ("no decay seen up to the oldest age", "在最大滞后内未见衰减"),
    "unclear": ("fades in a form that has no half-life", "衰减形态无半衰期"),
    "back": ("all features", "全部特征"),
    "thresholds": ("thresholds", "阈值"),
    "month": ("month", "月份"),
    "versions": ("versions", "版本"),
    "symbols": ("symbols", "标的"),
}


def word(name: str) -> str:
    """Return a label in both languages, as HTML."""
    english, chinese = _WORDS[name]
    return f'{english} <small lang="zh">{chinese}</small>' if english != chinese else english


def english(name: str) -> str:
    """Return a label in English, for what has no room for two."""
    return _WORDS[name][0]


def number(value: float | None, form: str) -> str:
    """Return a number, or a dash for what is not known."""
    return "–" if value is None else f"{value:{form}}"


def text(value: object) -> str:
    """Return text that may stand in HTML."""
    return html.escape(str(value))


def row(*cells: str, head: bool = False, numeric: frozenset[int] = frozenset()) -> str:
    """Return a row of a table; cells are HTML."""
    tag = 'th scope="col"' if head else "td"
    end = "th" if head else "td"
    parts = (f"<{tag}{' class=n' if i in numeric else ''}>{cell}</{end}>" for i, cell in enumerate(cells))
    return f"<tr>{''.join(parts)}</tr>"


def facts(pairs: list[tuple[str, str]]) -> str:
    """Return named values as a list; names and values are HTML."""
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in pairs)}</dl>"
