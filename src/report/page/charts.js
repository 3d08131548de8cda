// SPDX-License-Identifier: Apache-2.0
// Draws charts with ECharts: colours of the page's style, drawn anew when these change (dark mode,
// print), and beside each chart its numbers as a table.
import { BarChart, HeatmapChart, LineChart } from "echarts/charts";
import {
  AriaComponent,
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TooltipComponent,
  VisualMapComponent,
} from "echarts/components";
import * as echarts from "echarts/core";
import { CanvasRenderer, SVGRenderer } from "echarts/renderers";
import { element, table } from "./dom.js";

echarts.use([
  BarChart,
  HeatmapChart,
  LineChart,
  AriaComponent,
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TooltipComponent,
  VisualMapComponent,
  CanvasRenderer,
  SVGRenderer,
]);

/** Cells from which a chart is drawn as pixels: as many shapes would be slow. */
const cellsOfPixels = 4096;

/** The charts in the page. */
const drawn = new Set();

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: of("text"),
    quiet: of("quiet"),
    line: of("line"),
    surface: of("surface"),
    dispatch: of("dispatch"),
    combine: of("combine"),
    dispatchLight: of("dispatch-light"),
    combineLight: of("combine-light"),
    ceiling: of("ceiling"),
    good: of("good"),
    bad: of("bad"),
    series: ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6"].map(of),
    heat: [of("heat-low"), of("heat-high")],
  };
}

/** What all charts have in common. */
function complete(option, colours) {
  const axis = (settings) =>
    settings && {
      nameLocation: "middle",
      axisLine: { lineStyle: { color: colours.line } },
      splitLine: { lineStyle: { color: colours.line } },
      ...settings,
      axisLabel: { color: colours.quiet, ...settings.axisLabel },
      nameTextStyle: { color: colours.quiet },
    };
  return {
    animation: false,
    textStyle: { fontFamily: "system-ui, sans-serif" },
    aria: { enabled: true },
    tooltip: {
      trigger: "item",
      confine: true,
      backgroundColor: colours.surface,
      borderColor: colours.line,
      textStyle: { color: colours.text },
      renderMode: "richText",
      ...option.tooltip,
    },
    legend: { top: 0, type: "plain", textStyle: { color: colours.text }, ...option.legend },
    grid: { left: 8, right: 20, top: 52, bottom: 8, outerBoundsMode: "same", ...option.grid },
    ...(option.visualMap && {
      visualMap: {
        orient: "horizontal",
        left: "center",
        top: 0,
        calculable: false,
        itemHeight: 120,
        inRange: { color: colours.heat },
        textStyle: { color: colours.text },
        ...option.visualMap,
      },
    }),
    xAxis: axis(option.xAxis),
    yAxis: axis(option.yAxis),
    series: option.series,
  };
}

function draw(entry) {
  entry.chart.setOption(complete(entry.option(readColours()), readColours()), { notMerge: true });
}

/**
 * A chart with what it shows in words and its numbers.
 *
 * @param {object} what
 * @param {string} what.id
 * @param {string} what.title
 * @param {string} what.says     one or two sentences: what it shows
 * @param {(colours: ReturnType<typeof readColours>) => any} what.option
 * @param {string[]} what.heads  of the table
 * @param {(Node | string)[][]} what.rows
 * @param {number} [what.height]
 * @param {number} [what.cells]  of a heat map
 */
export function chart({ id, title, says, option, heads, rows, height = 300, cells = 0 }) {
  const place = element("div", {
    class: "chart",
    role: "img",
    "aria-label": `${title}. ${says}`,
    style: `height: ${height}px`,
  });
  const figure = element(
    "figure",
    { id },
    element("figcaption", {}, element("strong", {}, title), element("span", {}, says)),
    place,
    element("details", {}, element("summary", {}, "Numbers"), table(title, heads, rows)),
  );
  const renderer = cells > cellsOfPixels ? "canvas" : "svg";
  requestAnimationFrame(() => {
    if (!place.isConnected) return;
    const entry = { chart: echarts.init(place, null, { renderer }), option, place };
    drawn.add(entry);
    draw(entry);
  });
  return figure;
}

/** Lets go of charts that are no longer in the page. */
export function forgetCharts() {
  for (const entry of drawn)
    if (!entry.place.isConnected) {
      entry.chart.dispose();
      drawn.delete(entry);
    }
}

function redraw() {
  for (const entry of drawn) {
    entry.chart.resize();
    draw(entry);
  }
}

for (const query of ["(prefers-color-scheme: dark)", "print"])
  matchMedia(query).addEventListener("change", redraw);
addEventListener("resize", redraw);
