// The shared parts of every page: header, badges, tables, states. Data comes in as text and stays text.

import { h, replace } from "/web/dom.js";
import { LANGUAGES } from "/web/i18n.js";

const ORIGIN_BADGE = { real: "badge-up", replay: "badge-accent", simulated: "badge-hazard" };
const CONNECTION_BADGE = {
  connecting: "badge-plain badge-pulse", live: "badge-up", polling: "badge-warn", lost: "badge-down badge-pulse",
};

export function badge(text, kind = "badge-plain", title = null) {
  return h("span", { class: `badge ${kind}`, title }, text);
}

/** Return the badge of a provenance. Anything but `real` and `replay` is shown as loudly as simulated data. */
export function originBadge(i18n, origin) {
  const known = origin in ORIGIN_BADGE;
  const node = badge(i18n.t(known ? `origin.${origin}` : "origin.unknown"), known ? ORIGIN_BADGE[origin] : "badge-hazard");
  node.dataset.origin = known ? origin : "unknown";
  return node;
}

/** Return the badge of a limits profile. Anything but `standard` is a demonstration and labelled so, with its name. */
export function profileBadge(i18n, profile) {
  const isStandard = profile === "standard";
  const label = isStandard ? i18n.t("profile.standard") : i18n.t("profile.demo");
  const node = badge(isStandard || profile === "demo" ? label : `${label} · ${profile}`, isStandard ? "badge-plain" : "badge-warn");
  node.dataset.profile = isStandard ? "standard" : "demo";
  return node;
}

export function connectionBadge(i18n, name) {
  const node = badge(i18n.t(`connection.${name}`), `badge-dot ${CONNECTION_BADGE[name]}`);
  node.setAttribute("role", "status");
  return node;
}

/** Fill the node with one button per language; the pressed one is in use. */
export function mountLanguageSwitch(node, i18n) {
  const draw = () => replace(node, LANGUAGES.map(({ code, tag, label, name }) => h("button", {
    type: "button", lang: tag, "aria-label": name, "aria-pressed": String(i18n.code === code), "data-language": code,
    on: { click: () => choose(code) },
  }, label)));
  const choose = (code) => {
    i18n.use(code);
    node.querySelector(`[data-language="${code}"]`).focus();
  };
  node.setAttribute("role", "group");
  node.setAttribute("aria-label", i18n.t("language.label"));
  i18n.subscribe(() => {
    node.setAttribute("aria-label", i18n.t("language.label"));
    draw();
  });
  draw();
}

/**
 * Return a table. Columns: {label, cell(row) -> text or node, className?, stack?}. With `stacks` the rows become cards on a
 * phone; a column's `stack` is then `bare` (no name shown) or `wide` (the whole width). The roles are spelt out because
 * `display: grid` takes the table's own away.
 */
export function table({ caption, columns, rows, stacks = true, rowAttributes = () => ({}) }) {
  const head = columns.map(({ label, className }) => h("th", { scope: "col", role: "columnheader", class: className }, label));
  return h("table", { class: stacks ? "table table-stack" : "table", role: "table" },
    h("caption", { class: "visually-hidden" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row", ...rowAttributes(row) }, columns.map((column) => cell(column, row))))));
}

function cell({ label, cell: render, className = "", stack = "" }, row) {
  const wide = stack.includes("wide") ? " span-all" : "";
  const name = stack.includes("bare") ? null : label;
  return h("td", { role: "cell", class: `${className}${wide}`.trim() || null, "data-label": name }, render(row));
}

const N_ROWS_FIRST = 12; // on a phone every row is a card: a hundred of them would bury what stands below

const drawn = new WeakMap(); // what each node shows, so that nothing is redrawn under the reader's cursor without need

/**
 * Fill the node with a table of the first rows and, where there are more, a button that shows all; that choice is kept. Without
 * rows the node holds `empty` instead, {title, text}. A row's control with a `data-focus` of its own keeps the focus over a redraw.
 */
export function drawTable(node, { moreLabel, rows, empty, ...options }) {
  const isWhole = node.dataset.whole === "true" || rows.length <= N_ROWS_FIRST;
  const version = JSON.stringify([options.columns.map(({ label }) => label), empty, isWhole, rows]);
  if (drawn.get(node) === version) return;
  drawn.set(node, version);
  const showAll = () => {
    node.dataset.whole = "true";
    drawTable(node, { moreLabel, rows, empty, ...options });
    node.focus();
  };
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  if (rows.length === 0) {
    replace(node, emptyState(empty.title, empty.text));
  } else {
    const more = isWhole ? null : h("div", { class: "table-more" }, h("button", { type: "button", class: "button", on: { click: showAll } }, moreLabel(rows.length)));
    replace(node, table({ ...options, rows: isWhole ? rows : rows.slice(0, N_ROWS_FIRST) }), more);
  }
  if (focused) node.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

export function emptyState(title, text) {
  return h("div", { class: "state state-empty" }, h("p", { class: "state-title" }, title), h("p", {}, text));
}

export function loadingState(text) {
  return h("div", { class: "state state-loading", role: "status" }, h("p", {}, text));
}

/** Return the error state: what went wrong, what happens next, and a button to try again at once. */
export function errorState({ title, text, retryLabel, onRetry }) {
  return h("div", { class: "state state-error", role: "alert" },
    h("p", { class: "state-title" }, title),
    h("p", {}, text),
    h("button", { type: "button", class: "button", on: { click: onRetry } }, retryLabel));
}

/** Return the class of a signed amount: `up`, `down` or none for zero and for what is missing. */
export function signClass(value) {
  return value > 0 ? "up" : value < 0 ? "down" : "";
}
