// Reason codes in words. A code that is not named here is shown as it is: a new reason must never be hidden.

const EN = {
  open: "Open", increase: "Increase", reduce: "Reduce", close: "Close", flip: "Flip",
  score_below_min: "Score below threshold", edge_below_min: "Edge below cost", confidence_below_min: "Confidence below threshold",
  nan_input: "Missing input", nan_target: "Target is not a number", nan_price: "Price is not a number",
  no_direction: "No direction", no_volatility: "No volatility", bad_volatility: "Volatility unusable", bad_cost: "Cost unusable",
  bad_confidence: "Confidence unusable", unknown_bucket: "Unknown bucket", no_active_model: "No active model",
  signature_mismatch: "Features do not fit the model", stale_input: "Input too old", stale_target: "Target too old",
  kill_switch: "Kill switch engaged", in_band: "Inside the rebalance band", below_min_notional: "Below the smallest order",
  no_bar: "No bar", zero_volume: "No volume on the bar", volume_too_small: "Too little volume", no_equity: "No equity",
  no_signals: "No signals", no_targets: "No targets", target_missing: "Target never came", size_min: "Below the smallest size",
  correlation_max: "Too correlated with a better one", symbol_cap: "Symbol cap", bucket_cap: "Bucket cap", risk_budget: "Risk budget",
  gross_max: "Gross limit", warming_up: "Warming up", zero_size: "No size left by the limits", horizons_cancel: "Horizons cancel out",
  market_mismatch: "Wrong market", interval_mismatch: "Wrong interval", origin_mismatch: "Origin does not match the bars",
  no_profile: "No limits profile", bad_limits: "Limits unusable", duplicate_symbol: "Symbol named twice", unnamed_symbol: "Symbol without a name",
  nan_weight: "Weight is not a number", unknown_policy: "Unknown policy", symbol_cap_exceeded: "Above the symbol cap",
  gross_exceeded: "Above the gross limit", unknown_symbol: "Unknown symbol", hold: "Hold", stale_targets: "Targets too late",
  incomplete_signals: "A horizon did not speak", no_usable_signals: "No usable signal", participation: "More than its share of the volume",
  targets_late: "Targets came too late", targets_missing: "Targets never came", conflicting_targets: "Different targets for the same bar", late_bar: "Bar too late", conflicting_bar: "A different bar for the same time",
};

const ZH = {
  open: "开仓", increase: "加仓", reduce: "减仓", close: "平仓", flip: "反手",
  score_below_min: "得分低于门槛", edge_below_min: "优势不足以覆盖成本", confidence_below_min: "置信度低于门槛",
  nan_input: "输入缺失", nan_target: "目标不是数值", nan_price: "价格不是数值",
  no_direction: "没有方向", no_volatility: "没有波动率", bad_volatility: "波动率不可用", bad_cost: "成本不可用",
  bad_confidence: "置信度不可用", unknown_bucket: "未知类别", no_active_model: "没有生效模型",
  signature_mismatch: "特征与模型不匹配", stale_input: "输入过旧", stale_target: "目标过旧",
  kill_switch: "紧急停止已启用", in_band: "在再平衡区间内", below_min_notional: "低于最小订单金额",
  no_bar: "没有 K 线", zero_volume: "该 K 线无成交量", volume_too_small: "成交量过小", no_equity: "没有权益",
  no_signals: "没有信号", no_targets: "没有目标", target_missing: "目标始终未到", size_min: "低于最小数量",
  correlation_max: "与更优者相关性过高", symbol_cap: "单品种上限", bucket_cap: "类别上限", risk_budget: "风险预算",
  gross_max: "总敞口上限", warming_up: "预热中", zero_size: "限额之内已无仓位可用", horizons_cancel: "各周期相互抵消",
  market_mismatch: "市场不符", interval_mismatch: "周期不符", origin_mismatch: "来源与 K 线不符",
  no_profile: "缺少限额配置", bad_limits: "限额不可用", duplicate_symbol: "品种重复", unnamed_symbol: "品种没有名称",
  nan_weight: "权重不是数值", unknown_policy: "未知策略", symbol_cap_exceeded: "超过单品种上限",
  gross_exceeded: "超过总敞口上限", unknown_symbol: "未知品种", hold: "保持", stale_targets: "目标来得过晚",
  incomplete_signals: "有周期没有给出信号", no_usable_signals: "没有可用信号", participation: "超过可参与的成交量份额",
  targets_late: "目标到得太晚", targets_missing: "目标始终未到", conflicting_targets: "同一 K 线出现不同目标", late_bar: "K 线来得过晚", conflicting_bar: "同一时间出现不同 K 线",
};

const keyed = (table) => Object.fromEntries(Object.entries(table).map(([code, text]) => [`reason.${code}`, text]));

export const REASONS = Object.freeze({ en: keyed(EN), zh: keyed(ZH) });

/** Return a reason code in words, or the code itself where there are none. */
export function reasonText(i18n, code) {
  if (!code) return "–";
  return i18n.has(`reason.${code}`) ? i18n.t(`reason.${code}`) : code;
}
