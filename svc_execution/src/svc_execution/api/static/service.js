// How the services behind the desk are doing: refusals, latency per hop, active models.

import { byId, h, replace, svg } from "/web/dom.js";
import { drawTable, emptyState } from "/web/ui.js";
import { reasonText } from "/desk/static/reasons.js";

const WIDTH = 200;

export function drawRefusals(page) {
  const { i18n, format, desk } = page;
  const columns = [
    { label: i18n.t("refusals.bar"), className: "nowrap muted", cell: ({ as_of: at }) => format.dayAndTime(at) },
    { label: i18n.t("refusals.reason"), cell: ({ reason, examples }) => h("span", {}, reasonText(i18n, reason),
      examples.length > 0 ? h("small", { class: "refusal-examples" }, examples.join(", ")) : null) },
    { label: i18n.t("refusals.n"), className: "num", cell: ({ n }) => format.integer(n) },
  ];
  drawTable(byId("refusals"), {
    caption: i18n.t("refusals.title"),
    columns,
    rows: desk.refusals,
    stacks: false,
    moreLabel: (n) => i18n.t("table.all", { n }),
    empty: { title: i18n.t("refusals.empty"), text: i18n.t("refusals.empty.text") },
  });
}

export function drawLatency(page) {
  const { i18n, desk, format } = page;
  const { hops, total, starting } = desk.latency;
  const measured = hops.filter(({ n }) => n > 0);
  const apart = starting.n > 0 ? i18n.t("latency.starting", { n: format.integer(starting.n), max: format.milliseconds(starting.max_ms) }) : null;
  if (measured.length === 0) return replace(byId("latency"), emptyState(i18n.t("latency.empty"), apart ?? i18n.t("latency.empty.text")));
  const slowest = Math.max(...measured.map(({ p99_ms: p99 }) => p99), total.p99_ms);
  const rows = measured.map((hop) => hopRow(page, hop, slowest));
  return replace(byId("latency"), h("div", { class: "hops" }, rows, hopRow(page, { ...total, name: i18n.t("latency.total") }, slowest, "hop-total"),
    apart === null ? null : h("span", { class: "card-note" }, apart)));
}

function hopRow({ i18n, format }, { name, p50_ms: p50, p99_ms: p99, n }, slowest, className = "") {
  const values = { name, p50: format.milliseconds(p50), p99: format.milliseconds(p99), n: format.integer(n) };
  const bar = (kind, value) => svg("rect", { class: kind, x: 0, y: 0, width: Math.max(1, (value / slowest) * WIDTH), height: 6, rx: 1 });
  return h("div", { class: `hop ${className}`.trim() },
    h("span", {}, name),
    h("span", {}, values.p50, h("span", { class: "muted" }, ` / ${values.p99}`)),
    svg("svg", { viewBox: `0 0 ${WIDTH} 6`, preserveAspectRatio: "none", role: "img", "aria-label": i18n.t("latency.describe", values) },
      svg("rect", { class: "track", x: 0, y: 0, width: WIDTH, height: 6, rx: 1 }), bar("hop-p99", p99), bar("hop-p50", p50)));
}

export function drawModels(page) {
  const { i18n, desk } = page;
  const columns = [
    { label: i18n.t("models.horizon"), className: "strong", cell: ({ horizon }) => horizon },
    { label: i18n.t("models.model"), cell: ({ model_id: id }) => h("span", { class: "mono" }, id) },
  ];
  drawTable(byId("models"), {
    caption: i18n.t("models.title"),
    columns,
    rows: desk.models,
    stacks: false,
    moreLabel: (n) => i18n.t("table.all", { n }),
    empty: { title: i18n.t("models.empty"), text: i18n.t("models.empty.text") },
  });
}
