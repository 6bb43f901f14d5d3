// Why there was a trade, or none: each horizon's scores against its threshold, on one scale.

import { byId, h, replace, svg } from "/web/dom.js";
import { badge, emptyState } from "/web/ui.js";
import { reasonText } from "/desk/static/reasons.js";

const WIDTH = 400;
const HEIGHT = 22;
const MIDDLE = HEIGHT / 2;

export function drawDecision(page) {
  const { i18n, desk } = page;
  const node = byId("decision");
  if (desk.scores.length === 0) return replace(node, emptyState(i18n.t("decision.empty"), i18n.t("decision.empty.text")));
  const scale = createScale(desk.scores);
  return replace(node, verdict(page), h("div", { class: "scores" }, desk.scores.map((score) => row(page, score, scale))), key(i18n));
}

// Scores far outside (a tiny volatility makes them huge) end at the edge of the scale instead of squeezing the rest.
function createScale(scores) {
  const thresholds = scores.map(({ threshold }) => threshold);
  const high = Math.max(...thresholds) * 2;
  const low = -high;
  return (value) => 4 + ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (WIDTH - 8);
}

function verdict({ i18n, format, desk }) {
  const passed = desk.scores.reduce((sum, score) => sum + score.n_passed, 0);
  const rows = desk.scores.reduce((sum, score) => sum + score.n_rows, 0);
  if (passed > 0) return h("p", { class: "verdict verdict-some" }, i18n.t("decision.some", { passed: format.integer(passed), rows: format.integer(rows) }));
  const scored = desk.scores.filter(({ distance }) => distance !== null);
  if (scored.length === 0) return h("p", { class: "verdict verdict-none" }, i18n.t("decision.no_scores"));
  const closest = scored.reduce((a, b) => (b.distance < a.distance ? b : a));
  const text = closest.distance > 0 ? "decision.none" : "decision.none.other";
  return h("p", { class: "verdict verdict-none" }, i18n.t(text, {
    horizon: closest.horizon, best: format.fixed(closest.score_max, 2), distance: format.fixed(closest.distance, 2), threshold: format.fixed(closest.threshold, 2),
  }));
}

function row(page, score, scale) {
  const { i18n, format } = page;
  const values = { best: format.fixed(score.score_max, 2), threshold: format.fixed(score.threshold, 2) };
  return h("div", { class: "score" },
    h("div", { class: "score-head" },
      h("span", {}, h("b", { class: "strong" }, score.horizon), " ", h("span", { class: "muted" }, i18n.t("decision.row", values))),
      outcome(page, score)),
    score.score_max === null ? null : bar(page, score, scale));
}

function outcome({ i18n, format }, score) {
  if (score.score_max === null) return h("span", { class: "muted" }, i18n.t("decision.no_rows", { why: reasonText(i18n, score.reason) }));
  if (score.n_passed > 0) return badge(i18n.t("decision.passed", { passed: format.integer(score.n_passed), rows: format.integer(score.n_rows) }), "badge-up");
  if (score.distance > 0) return h("span", { class: "warn" }, i18n.t("decision.distance", { distance: format.fixed(score.distance, 2) }));
  return h("span", { class: "muted" }, i18n.t("decision.passed", { passed: "0", rows: format.integer(score.n_rows) }));
}

function bar({ i18n, format }, score, scale) {
  const { score_min: low, score_p50: p50, score_p90: p90, score_max: best, threshold, horizon } = score;
  const label = i18n.t("decision.describe", {
    horizon, p50: format.fixed(p50, 2), p90: format.fixed(p90, 2), best: format.fixed(best, 2), threshold: format.fixed(threshold, 2),
  });
  const line = (className, value, top, bottom) => svg("line", { class: className, x1: scale(value), x2: scale(value), y1: top, y2: bottom });
  return svg("svg", { class: "score-bar", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("rect", { class: "track", x: 0, y: MIDDLE - 4, width: WIDTH, height: 8, rx: 2 }),
    line("zero", 0, MIDDLE - 4, MIDDLE + 4),
    svg("line", { class: "whisker", x1: scale(low), x2: scale(best), y1: MIDDLE, y2: MIDDLE }),
    svg("rect", { class: "band", x: scale(p50), y: MIDDLE - 4, width: Math.max(2, scale(p90) - scale(p50)), height: 8 }),
    svg("rect", { class: score.n_passed > 0 ? "best-passed" : "best", x: scale(best) - 3, y: MIDDLE - 5, width: 6, height: 10, rx: 3 }),
    line("limit", threshold, 0, HEIGHT));
}

function key(i18n) {
  return h("p", { class: "score-key", "aria-hidden": "true" },
    h("span", { class: "key-band" }, i18n.t("decision.key.band")),
    h("span", { class: "key-best" }, i18n.t("decision.key.best")),
    h("span", { class: "key-limit" }, i18n.t("decision.key.limit")));
}
