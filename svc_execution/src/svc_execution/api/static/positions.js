// What is held, and how far it is from where the targets want it.

import { byId, h, svg } from "/web/dom.js";
import { drawTable, signClass } from "/web/ui.js";

const WIDTH = 120;
const HEIGHT = 10;

export function drawPositions(page) {
  const { i18n, format, desk } = page;
  const positions = [...desk.positions].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  byId("positions-note").textContent = positions.length > 0 ? i18n.t("positions.note", { n: format.integer(positions.length) }) : "";
  const widest = Math.max(0.05, ...positions.flatMap(({ weight, target_weight: target }) => [Math.abs(weight), Math.abs(target)]));
  drawTable(byId("positions"), {
    caption: i18n.t("positions.title"),
    columns: columns(page, widest),
    rows: positions,
    moreLabel: (n) => i18n.t("table.all", { n }),
    empty: { title: i18n.t("positions.empty"), text: i18n.t("positions.empty.text") },
  });
}

function columns(page, widest) {
  const { i18n, format } = page;
  return [
    { label: i18n.t("positions.symbol"), stack: "bare", cell: (position) => name(page, position) },
    { label: i18n.t("positions.pnl"), className: "num", cell: ({ unrealized_pnl: pnl }) => h("span", { class: signClass(pnl) }, format.moneySigned(pnl)) },
    { label: i18n.t("positions.notional"), className: "num cell-size", stack: "wide", cell: (position) => size(page, position) },
    { label: i18n.t("positions.weight"), className: "cell-weight", stack: "wide", cell: (position) => weights(page, position, widest) },
  ];
}

function name({ i18n, format, showSymbol }, { symbol, average_price: average }) {
  return h("span", { class: "stacked" },
    h("button", { type: "button", class: "link-button", "data-focus": symbol, on: { click: () => showSymbol(symbol) } }, symbol),
    h("small", {}, i18n.t("positions.average", { price: format.price(average) })));
}

function size({ format }, { notional, quantity }) {
  return h("span", { class: "stacked" }, format.money(notional), h("small", {}, format.quantity(quantity)));
}

function weights({ i18n, format }, { weight, target_weight: target }, widest) {
  const values = { weight: format.percent(weight, 1), target: format.percent(target, 1) };
  const x = (value) => WIDTH / 2 + (value / widest) * (WIDTH / 2 - 2);
  const bar = svg("svg", { class: "weight-bar", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": i18n.t("positions.describe", values) },
    svg("rect", { class: "track", x: 0, y: 2, width: WIDTH, height: 6, rx: 1 }),
    svg("rect", { class: weight < 0 ? "weight-short" : "weight-long", x: Math.min(x(0), x(weight)), y: 2, width: Math.abs(x(weight) - x(0)), height: 6 }),
    svg("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: HEIGHT }),
    svg("line", { class: "weight-target", x1: x(target), x2: x(target), y1: 0, y2: HEIGHT }));
  return h("span", { class: "stacked" }, h("span", { class: "nowrap" }, `${values.weight} → ${values.target}`), bar);
}
