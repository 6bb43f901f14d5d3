// The paper desk: load /api/desk, draw its sections, follow the event stream. Read only; nothing here gives a command.

import { byId, replace } from "/web/dom.js";
import { createFormat } from "/web/format.js";
import { getJson } from "/web/http.js";
import { createI18n } from "/web/i18n.js";
import { follow } from "/web/live.js";
import { errorState, loadingState, mountLanguageSwitch } from "/web/ui.js";
import { drawDecision } from "/desk/static/decision.js";
import { createEquitySection } from "/desk/static/equity.js";
import { MESSAGES } from "/desk/static/messages.js";
import { drawMetrics } from "/desk/static/metrics.js";
import { drawOrders } from "/desk/static/orders.js";
import { drawPositions } from "/desk/static/positions.js";
import { createPriceSection } from "/desk/static/price.js";
import { drawLatency, drawModels, drawRefusals } from "/desk/static/service.js";
import { drawBadges, drawBanners } from "/desk/static/status.js";

const i18n = createI18n(MESSAGES);
const page = {
  i18n,
  format: createFormat(i18n.tag),
  desk: null, // the last answer of /api/desk
  connection: { name: "connecting", error: null },
  showSymbol: (symbol) => price.show(symbol),
};
const equity = createEquitySection(page);
const price = createPriceSection(page);
const SECTIONS = [drawMetrics, drawDecision, drawPositions, drawOrders, drawRefusals, drawLatency, drawModels];

function drawAll() {
  drawStatus();
  if (!page.desk) return;
  for (const draw of SECTIONS) draw(page);
  equity.draw();
  price.draw();
}

function drawStatus() {
  const { name, error } = page.connection;
  document.body.dataset.connection = name;
  document.title = `${i18n.t("page.title")} · Qraft`;
  byId("clock").textContent = page.format.instant(page.desk?.as_of ?? null);
  byId("desk").hidden = !page.desk;
  byId("desk").classList.toggle("is-stale", name === "lost");
  drawBadges(page);
  drawBanners(page);
  drawGate(error);
}

// What stands in the place of the desk until the first answer has come.
function drawGate(error) {
  const gate = byId("gate");
  if (page.desk) return replace(gate);
  if (!error) return replace(gate, loadingState(i18n.t("page.loading")));
  return replace(gate, errorState({
    title: i18n.t("page.down"), text: i18n.t("page.down.text", { why: error.message }), retryLabel: i18n.t("state.retry"), onRetry: () => live.refresh(),
  }));
}

i18n.apply(document);
i18n.subscribe(() => {
  page.format = createFormat(i18n.tag);
  drawAll();
});
mountLanguageSwitch(byId("language"), i18n);

const live = follow({
  load: () => getJson("/api/desk"),
  eventsUrl: "/api/desk/events",
  eventName: "bar",
  onData(desk) {
    page.desk = desk;
    page.connection = { ...page.connection, error: null };
    drawAll();
    price.refresh();
  },
  onEvent({ as_of: asOf }) {
    byId("clock").textContent = page.format.instant(asOf);
  },
  onConnection(name, error) {
    page.connection = { name, error };
    drawStatus();
  },
});
