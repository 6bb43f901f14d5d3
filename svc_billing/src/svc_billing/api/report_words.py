"""What the weekly report says, in English and Chinese."""

from __future__ import annotations

from typing import Final

# key: (English, Chinese). Placeholders are filled by str.format with escaped values.
WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("Cost and utilization", "成本与利用率"),
    "week": ("Week {week}", "{week} 周"),
    "span": ("{since} to {until}, UTC", "{since} 至 {until}（UTC）"),
    "complete": ("complete week", "整周"),
    "ongoing": ("week so far", "本周至今"),
    "simulated_note": (
        "{n} of {all} jobs this week are simulated. They used real machine time, but what they made is not real.",
        "本周 {all} 项任务中有 {n} 项为模拟。机器时间是真实的，产出不是真实的。",
    ),
    "empty_title": ("Nothing was booked this week", "本周没有入账记录"),
    "empty_note": (
        "Jobs appear here once a service has published usage.compute and the ledger has booked it.",
        "服务发布 usage.compute 并由账本入账后，任务会出现在这里。",
    ),
    "at_a_glance": ("At a glance", "概览"),
    "cpu_utilization": ("CPU utilization", "CPU 利用率"),
    "gpu_utilization": ("GPU utilization", "GPU 利用率"),
    "of_cores": ("{busy} of {cores} cores × {span}", "{busy} / {cores} 核 × {span}"),
    "of_gpus": ("{busy} of {gpus} GPU × {span}", "{busy} / {gpus} 块 GPU × {span}"),
    "cpu_time": ("CPU time", "CPU 时间"),
    "gpu_time": ("GPU time", "GPU 时间"),
    "jobs": ("Jobs", "任务数"),
    "bytes": ("Data written or sent", "写入或发送数据"),
    "provider_cost": ("Provider cost", "供应商费用"),
    "not_told": ("not told", "未告知"),
    "unknown_cost": ("{n} not told", "{n} 项未告知"),
    "unknown_cost_note": ("plus {n} jobs whose cost nobody told", "另有 {n} 项费用未告知"),
    "all_told": ("every cost was told", "费用均已告知"),
    "columns": ("By column", "分栏统计"),
    "column": ("Column", "栏目"),
    "share": ("Share of CPU time", "占 CPU 时间"),
    "total": ("Total", "合计"),
    "research": ("Research", "研究"),
    "training": ("Training", "训练"),
    "paper": ("Paper trading", "模拟盘"),
    "provider": ("Real provider calls", "真实供应商调用"),
    "demo": ("Demo service", "演示服务"),
    "n_simulated": ("{n} simulated", "{n} 项模拟"),
    "n_replayed": ("{n} replayed", "{n} 项回放"),
    "heavy": ("Heavy jobs", "重型任务"),
    "heavy_note": ("{threshold} of CPU plus GPU time or more", "CPU 与 GPU 时间合计 {threshold} 以上"),
    "heavy_more": ("The {n} heaviest of {all} are listed.", "共 {all} 项，列出最重的 {n} 项。"),
    "heavy_none": ("No heavy job ended this week.", "本周没有重型任务结束。"),
    "job": ("Job", "任务"),
    "purpose": ("Purpose", "目的"),
    "stop": ("Stops when", "停止条件"),
    "ended": ("Ended", "结束时间"),
    "ran": ("Ran", "用时"),
    "simulated": ("simulated", "模拟"),
    "replay": ("replay", "回放"),
    "rules": ("How this is counted", "统计口径"),
    "rule_week": (
        "A job belongs to the ISO week (UTC) in which it ended, whole, even if it began before.",
        "任务按结束时间归入 ISO 周（UTC），整项计入，即使开始于上周。",
    ),
    "rule_cost": (
        "A provider cost that was not told is counted as unknown and never added as zero.",
        "未告知的供应商费用单独计数，绝不按零计入。",
    ),
    "rule_use": (
        "Utilization is booked seconds ÷ (cores or GPUs × the part of the week that has passed). Work that nobody "
        "books is not in it.",
        "利用率 = 入账秒数 ÷（核数或 GPU 数 × 本周已过时间）。未入账的工作不在其中。",
    ),
    "language": ("Language", "语言"),
}
