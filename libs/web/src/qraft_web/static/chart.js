// A thin wrapper over the kept chart library: colors come from the design tokens and follow the theme, times are UTC, and the
// canvas has a text that says what it shows. The library's own logo needs an inline style, which the content policy refuses;
// its attribution is a line in the page's footer instead.

import {
  AreaSeries, CandlestickSeries, ColorType, createChart, createSeriesMarkers, CrosshairMode,
} from "/web/vendor/lightweight-charts-5.2.1/lightweight-charts.standalone.production.mjs";

const KINDS = { area: AreaSeries, candles: CandlestickSeries };
const THEME_QUERY = matchMedia("(prefers-color-scheme: dark)");

/** Return the value of a design token, such as `token("--up")`. */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/**
 * Return a time chart in `container`: `addSeries`, `markers`, `describe`, `onHover`, `fit`, `isTouched`, `localize`.
 *
 * A series takes its colors as token names ({topColor: "--area-top"}), so that it can be painted again in the other theme.
 */
export function createTimeChart(container, { localeTag }) {
  const painted = [];
  const chart = createChart(container, { autoSize: true, ...layout(), localization: { locale: localeTag } });
  let touched = false;

  container.setAttribute("role", "img");
  for (const event of ["wheel", "pointerdown"]) container.addEventListener(event, () => { touched = true; }, { passive: true });
  const paint = () => {
    chart.applyOptions(layout());
    for (const repaint of painted) repaint();
  };
  THEME_QUERY.addEventListener("change", paint);

  return {
    addSeries(kind, { tokens, options = {}, pane = 0 }) {
      const series = chart.addSeries(KINDS[kind], { ...options, ...resolve(tokens) }, pane);
      painted.push(() => series.applyOptions(resolve(tokens)));
      return series;
    },
    /** Return a setter of markers; each names its color as a token. */
    markers(series) {
      const plugin = createSeriesMarkers(series, []);
      let shown = [];
      const draw = () => plugin.setMarkers(shown.map((marker) => ({ ...marker, color: token(marker.color) })));
      painted.push(draw);
      return (markers) => { shown = markers; draw(); };
    },
    stretchPanes(...factors) {
      chart.panes().forEach((pane, index) => pane.setStretchFactor(factors[index]));
    },
    describe(text) { container.setAttribute("aria-label", text); },
    onHover(listener) { chart.subscribeCrosshairMove((point) => listener(point.time ?? null, point.seriesData)); },
    fit() { chart.timeScale().fitContent(); },
    showLast(count) {
      chart.timeScale().setVisibleLogicalRange({ from: Math.max(-0.5, count.total - count.bars - 0.5), to: count.total + 1.5 });
    },
    /** Tell whether the reader has moved or zoomed the chart; it is then left where it is. */
    get isTouched() { return touched; },
    untouch() { touched = false; },
    localize(tag) { chart.applyOptions({ localization: { locale: tag } }); },
  };
}

function resolve(tokens) {
  return Object.fromEntries(Object.entries(tokens).map(([option, name]) => [option, token(name)]));
}

function layout() {
  const line = token("--line");
  const strong = token("--line-strong");
  const crosshair = { color: strong, labelBackgroundColor: token("--accent-soft") };
  return {
    layout: {
      background: { type: ColorType.Solid, color: token("--surface") },
      textColor: token("--muted"),
      fontFamily: token("--font-sans"),
      fontSize: 11,
      attributionLogo: false,
      panes: { separatorColor: line, separatorHoverColor: line, enableResize: false },
    },
    grid: { vertLines: { visible: false }, horzLines: { color: line } },
    crosshair: { mode: CrosshairMode.Magnet, vertLine: crosshair, horzLine: crosshair },
    rightPriceScale: { borderVisible: false, minimumWidth: 72, entireTextOnly: true },
    timeScale: { borderColor: line, timeVisible: true, secondsVisible: false, rightOffset: 2, minBarSpacing: 0.05 },
    handleScroll: { vertTouchDrag: false },
    handleScale: { axisPressedMouseMove: { price: false } },
  };
}
