// The strip of figures that an operator reads first.

import { byId, h, replace } from "/web/dom.js";
import { signClass } from "/web/ui.js";

export function drawMetrics(page) {
  const metrics = [equity, profit, drawdown, exposure, costs, latency, killSwitch];
  replace(byId("metrics"), metrics.map((metric) => node(metric(page))));
}

function node({ label, value, valueClass = "", note, noteClass = "", kind = "" }) {
  return h("div", { class: `metric ${kind}`.trim() },
    h("dt", {}, label), h("dd", { class: valueClass || null }, value), h("dd", { class: `metric-note ${noteClass}`.trim() }, note));
}

function equity({ i18n, format, desk }) {
  const { now, start } = desk.equity;
  return { label: i18n.t("metrics.equity"), value: format.moneyCents(now), note: i18n.t("metrics.start", { start: format.money(start) }), kind: "metric-first" };
}

function profit({ i18n, format, desk }) {
  const { pnl, start } = desk.equity;
  const sign = signClass(pnl);
  return { label: i18n.t("metrics.pnl"), value: format.moneySigned(pnl), valueClass: sign, note: format.percentSigned(pnl / start), noteClass: sign };
}

function drawdown({ i18n, format, desk }) {
  const { drawdown: now, drawdown_max: worst } = desk.equity;
  const note = i18n.t("metrics.drawdown_max", { value: format.percent(worst) });
  return { label: i18n.t("metrics.drawdown"), value: format.percent(now), note };
}

function exposure({ i18n, format, desk }) {
  const weights = desk.positions.map(({ weight }) => weight);
  const gross = weights.reduce((sum, weight) => sum + Math.abs(weight), 0);
  const net = weights.reduce((sum, weight) => sum + weight, 0);
  return { label: i18n.t("metrics.exposure"), value: format.percent(gross, 1), note: i18n.t("metrics.net", { value: format.percentSigned(net, 1) }) };
}

function costs({ i18n, format, desk }) {
  const { fees, slippage, half_spread: halfSpread, impact } = desk.equity;
  const execution = slippage + halfSpread + impact;
  const note = i18n.t("metrics.costs.note", { fees: format.money(fees), execution: format.money(execution) });
  return { label: i18n.t("metrics.costs"), value: format.money(fees + execution), note };
}

function latency({ i18n, format, desk }) {
  const { n } = desk.latency.total;
  const [p50, p99] = n > 0 ? [desk.latency.total.p50_ms, desk.latency.total.p99_ms] : [null, null];
  const note = i18n.t("metrics.latency.note", { p50: format.milliseconds(p50), n: format.integer(n) });
  return { label: i18n.t("metrics.latency"), value: format.milliseconds(p99), note };
}

function killSwitch({ i18n, format, desk }) {
  const { engaged, at } = desk.kill_switch;
  const label = i18n.t("metrics.kill");
  if (engaged) return { label, value: i18n.t("metrics.kill.on"), note: format.instant(at), kind: "metric-danger" };
  return { label, value: i18n.t("metrics.kill.off"), note: i18n.t("metrics.kill.off.note") };
}
