// Orders, newest first: why each was made, what became of it, and what it cost, part by part.

import { byId, h } from "/web/dom.js";
import { badge, drawTable } from "/web/ui.js";
import { reasonText } from "/desk/static/reasons.js";

const STATUS_BADGE = { open: "badge-accent", filled: "badge-up", partial: "badge-warn", expired: "badge-plain" };

export function drawOrders(page) {
  const { i18n, format, desk } = page;
  byId("orders-note").textContent = desk.orders.length > 0 ? i18n.t("orders.note", { n: format.integer(desk.orders.length) }) : "";
  drawTable(byId("orders"), {
    caption: i18n.t("orders.title"),
    columns: columns(page),
    rows: desk.orders,
    moreLabel: (n) => i18n.t("table.all", { n }),
    empty: { title: i18n.t("orders.empty"), text: i18n.t("orders.empty.text") },
  });
}

function columns(page) {
  const { i18n, format } = page;
  const amount = (field) => ({
    label: i18n.t(`orders.${field}`), className: "num", cell: ({ fill }) => (fill ? format.moneyCents(fill[field]) : null),
  });
  return [
    { label: i18n.t("orders.decided"), className: "cell-time nowrap muted", stack: "bare", cell: ({ decided_at: at }) => format.dayAndTime(at) },
    { label: i18n.t("orders.symbol"), className: "cell-symbol", stack: "bare", cell: (order) => symbol(page, order) },
    { label: i18n.t("orders.side"), className: "cell-side nowrap", stack: "bare", cell: ({ side }) => sideText(i18n, side) },
    { label: i18n.t("orders.reason"), className: "cell-reason", stack: "bare wide", cell: (order) => reason(page, order) },
    { label: i18n.t("orders.status"), className: "cell-status", stack: "bare", cell: (order) => statusText(i18n, order) },
    { label: i18n.t("orders.quantity"), className: "num", cell: (order) => quantity(page, order) },
    { label: i18n.t("orders.theoretical"), className: "num", cell: ({ theoretical_price: price }) => format.price(price) },
    { label: i18n.t("orders.fill"), className: "num strong", cell: ({ fill }) => (fill ? format.price(fill.fill_price) : null) },
    amount("half_spread"), amount("slippage"), amount("impact"), amount("fee"), amount("drift"),
    { label: i18n.t("orders.cost"), className: "num strong", stack: "wide", cell: ({ fill }) => costInBasisPoints(format, fill) },
  ];
}

function statusText(i18n, { status, expiry_reason: why }) {
  const shown = status in STATUS_BADGE ? badge(i18n.t(`status.${status}`), STATUS_BADGE[status]) : badge(status);
  return why ? h("span", { class: "stacked" }, h("span", {}, shown), h("small", {}, reasonText(i18n, why))) : shown;
}

function symbol({ showSymbol }, { symbol: name, order_id: id }) {
  return h("button", { type: "button", class: "link-button", "data-focus": id, on: { click: () => showSymbol(name) } }, name);
}

function sideText(i18n, side) {
  const isBuy = side === "buy";
  if (!isBuy && side !== "sell") return side;
  return h("span", { class: `strong ${isBuy ? "up" : "down"}` }, `${isBuy ? "▲" : "▼"} ${i18n.t(`side.${side}`)}`);
}

function reason({ i18n, format }, { reason: code, policy, target_weight: weight }) {
  const policyText = i18n.has(`policy.${policy}`) ? i18n.t(`policy.${policy}`) : policy;
  return h("span", { class: "stacked" }, reasonText(i18n, code), h("small", {}, `${policyText} → ${format.percent(weight, 1)}`));
}

function quantity({ i18n, format }, { quantity: asked, fill, status }) {
  if (status !== "partial" || !fill) return format.quantity(asked);
  return i18n.t("orders.filled_of", { filled: format.quantity(fill.quantity), quantity: format.quantity(asked) });
}

// Everything that the venue took, over what was traded; drift is the market's doing and stays out of it.
function costInBasisPoints(format, fill) {
  if (!fill) return null;
  const traded = fill.quantity * fill.fill_price;
  return format.basisPoints((fill.half_spread + fill.slippage + fill.impact + fill.fee) / traded);
}
