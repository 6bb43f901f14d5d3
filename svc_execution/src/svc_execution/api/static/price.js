// Candles of one symbol with the desk's own fills on them, and the picker of the symbol.

import { createTimeChart } from "/web/chart.js";
import { byId, h, replace } from "/web/dom.js";
import { priceDigits } from "/web/format.js";
import { getJson } from "/web/http.js";
import { emptyState, errorState } from "/web/ui.js";

const N_BARS = 500;
const N_BARS_FIRST = 160; // about half a day of 5 m bars: candles wide enough to read

export function createPriceSection(page) {
  const container = byId("price-chart");
  const select = byId("symbol");
  const state = { symbol: null, answer: null, error: null, loading: null, shownSymbol: null };
  let parts = null;

  const load = async () => {
    const { symbol } = state;
    if (symbol === null || state.loading === symbol) return;
    state.loading = symbol;
    try {
      const answer = await getJson(`/api/desk/prices?symbol=${encodeURIComponent(symbol)}&limit=${N_BARS}`);
      if (state.symbol === symbol) Object.assign(state, { answer, error: null });
    } catch (error) {
      if (error.name !== "CallFailed") throw error;
      if (state.symbol === symbol) state.error = error;
    } finally {
      if (state.loading === symbol) state.loading = null;
    }
    if (state.symbol === symbol) drawChart();
  };
  const show = (symbol) => {
    Object.assign(state, { symbol, answer: null, error: null });
    select.value = symbol;
    load();
  };
  const draw = () => {
    const { symbols } = page.desk;
    drawOptions(select, symbols, state.symbol);
    if (state.symbol === null && symbols.length > 0) state.symbol = firstSymbol(page.desk);
    if (state.symbol !== null) select.value = state.symbol;
    select.parentElement.hidden = symbols.length === 0;
    drawChart();
  };
  const drawChart = () => {
    const { i18n } = page;
    const bars = state.answer?.bars ?? [];
    container.hidden = bars.length === 0;
    replace(byId("price-state"), bars.length === 0 ? absence(page, state, load) : null);
    if (bars.length === 0) return replace(byId("price-legend"));
    parts ??= make(page, container);
    parts.chart.localize(i18n.tag);
    fillChart(parts, state);
    describe(page, parts, state);
    return undefined;
  };

  select.addEventListener("change", () => show(select.value));
  return { draw, show, refresh: load };
}

function firstSymbol({ symbols, positions }) {
  const held = [...positions].sort((a, b) => Math.abs(b.notional) - Math.abs(a.notional));
  return held[0]?.symbol ?? symbols[0];
}

function drawOptions(select, symbols, chosen) {
  const key = symbols.join("\n");
  if (select.dataset.key === key) return;
  select.dataset.key = key;
  replace(select, symbols.map((symbol) => h("option", { value: symbol, selected: symbol === chosen }, symbol)));
}

function absence({ i18n }, { symbol, error }, onRetry) {
  if (error === null) return emptyState(i18n.t("price.empty"), i18n.t("price.empty.text"));
  return errorState({ title: i18n.t("price.failed", { symbol }), text: error.message, retryLabel: i18n.t("state.retry"), onRetry });
}

function make(page, container) {
  const chart = createTimeChart(container, { localeTag: page.i18n.tag });
  const candles = chart.addSeries("candles", {
    tokens: { upColor: "--candle-up", downColor: "--candle-down", wickUpColor: "--candle-up", wickDownColor: "--candle-down" },
    options: { borderVisible: false, priceLineVisible: false },
  });
  const parts = { chart, candles, setMarkers: chart.markers(candles), fills: new Map(), last: null };
  chart.onHover((time, data) => drawLegend(page, parts, time === null ? parts.last : data.get(candles)));
  return parts;
}

function fillChart(parts, state) {
  const { bars, fills, symbol } = state.answer;
  const data = bars.map(([time, open, high, low, close]) => ({ time, open, high, low, close }));
  const last = data[data.length - 1];
  const digits = priceDigits(last.close);
  parts.candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
  parts.candles.setData(data);
  parts.last = last;
  parts.fills = byBar(fills, bars);
  parts.setMarkers([...parts.fills].flatMap(([time, found]) => found.map((fill) => marker(time, fill))));
  if (state.shownSymbol !== symbol) {
    parts.chart.untouch();
    state.shownSymbol = symbol;
  }
  if (!parts.chart.isTouched) parts.chart.showLast({ total: data.length, bars: N_BARS_FIRST });
}

// Fills by the start of their bar, oldest first; one whose bar is not on the chart stays off it.
function byBar(fills, bars) {
  const shown = new Map(bars.map(([start]) => [start, []]));
  for (const fill of fills) shown.get(fill.time)?.push(fill);
  return new Map([...shown].filter(([, found]) => found.length > 0));
}

function marker(time, { side }) {
  const isBuy = side === "buy";
  return { time, position: isBuy ? "belowBar" : "aboveBar", shape: isBuy ? "arrowUp" : "arrowDown", color: isBuy ? "--up" : "--down", size: 1.5 };
}

function describe(page, parts, { answer, symbol }) {
  const { i18n, format } = page;
  drawLegend(page, parts, parts.last);
  parts.chart.describe(i18n.t("price.describe", {
    symbol, n: format.integer(answer.bars.length), close: format.price(parts.last.close), fills: format.integer(answer.fills.length),
  }));
}

function drawLegend({ i18n, format }, { fills }, bar) {
  if (!bar) return;
  const letters = [["O", bar.open], ["H", bar.high], ["L", bar.low], ["C", bar.close]];
  const trades = (fills.get(bar.time) ?? []).map(({ side, quantity, price }) => (
    h("b", { class: side === "buy" ? "up" : "down" }, `${i18n.t(`side.${side}`)} ${format.quantity(quantity)} @ ${format.price(price)}`)));
  replace(byId("price-legend"), h("span", {}, format.dayAndTime(bar.time)),
    letters.map(([letter, value]) => h("span", {}, `${letter} `, h("b", {}, format.price(value)))), trades);
}
