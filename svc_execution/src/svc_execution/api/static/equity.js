// Equity above, drawdown below, on one time axis.

import { createTimeChart } from "/web/chart.js";
import { byId, h, replace } from "/web/dom.js";
import { emptyState } from "/web/ui.js";

/** Return the equity section; the chart is made with the first point, since a hidden chart has no size. */
export function createEquitySection(page) {
  const container = byId("equity-chart");
  let parts = null;
  let drawnUntil = null;

  const draw = () => {
    const { i18n, format, desk } = page;
    const points = desk.equity.series;
    container.hidden = points.length === 0;
    replace(byId("equity-state"), points.length === 0 ? emptyState(i18n.t("equity.empty"), i18n.t("equity.empty.text")) : null);
    if (points.length === 0) return;
    parts ??= make(page, container, (time, values) => drawLegend(page, time, values));
    parts.chart.localize(i18n.tag);
    const last = points[points.length - 1];
    if (drawnUntil !== last[0]) {
      parts.equity.setData(points.map(([time, value]) => ({ time, value })));
      parts.drawdown.setData(points.map(([time, , value]) => ({ time, value: -value })));
      if (!parts.chart.isTouched) parts.chart.fit();
      drawnUntil = last[0];
    }
    drawLegend(page, last[0], { equity: last[1], drawdown: -last[2] });
    parts.chart.describe(i18n.t("equity.describe", {
      first: format.instant(points[0][0]), last: format.instant(last[0]), now: format.money(last[1]), drawdown: format.percent(last[2]),
    }));
  };
  return { draw };
}

function make(page, container, onValues) {
  const chart = createTimeChart(container, { localeTag: page.i18n.tag });
  // A day in which equity moves by 0.01 % has marks such as 1,000,120 and 1,000,140, which are both 1M.
  let marks = [];
  const priceFormat = {
    type: "custom",
    minMove: 0.01,
    formatter: (value) => page.format.axis(marks)(value),
    tickmarksFormatter: (values) => {
      marks = values;
      return values.map(page.format.axis(values));
    },
  };
  const equity = chart.addSeries("area", {
    tokens: { lineColor: "--accent", topColor: "--area-top", bottomColor: "--area-bottom" },
    options: { lineWidth: 2, priceLineVisible: false, priceFormat },
  });
  const drawdown = chart.addSeries("area", {
    tokens: { lineColor: "--down", topColor: "--loss-top", bottomColor: "--loss-bottom" },
    options: {
      lineWidth: 1, priceLineVisible: false, invertFilledArea: true,
      priceFormat: { type: "custom", minMove: 0.0001, formatter: (value) => page.format.percent(value) },
      autoscaleInfoProvider: (original) => withZero(original()),
    },
    pane: 1,
  });
  chart.stretchPanes(7, 3);
  chart.onHover((time, data) => {
    if (time === null) return;
    onValues(time, { equity: data.get(equity)?.value, drawdown: data.get(drawdown)?.value });
  });
  return { chart, equity, drawdown };
}

// The zero line stays in sight, so that a small drawdown does not look like a large one.
function withZero(info) {
  if (!info) return info;
  return { ...info, priceRange: { minValue: Math.min(info.priceRange.minValue, -0.001), maxValue: 0 } };
}

function drawLegend({ i18n, format }, time, { equity, drawdown }) {
  replace(byId("equity-legend"),
    h("span", {}, format.instant(time)),
    h("span", {}, `${i18n.t("equity.series")} `, h("b", {}, format.money(equity))),
    h("span", {}, `${i18n.t("equity.drawdown")} `, h("b", {}, format.percent(drawdown))));
}
