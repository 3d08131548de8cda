// SPDX-License-Identifier: Apache-2.0
// The charts of one run, and of all of them. Each function gives a figure, or null where the records
// have no data for it.
import { chart } from "./charts.js";
import {
  bytesText,
  countText,
  figure,
  rateText,
  speedKind,
  speedText,
  timeText,
} from "./format.js";
import { linesOver, operations } from "./runs.js";

const percentiles = ["min", "p50", "p90", "p99", "max"];

/** Bars that stand on each other, with a name for the axis. */
const bar = (name, data, color, stack) => ({
  type: "bar",
  name,
  data,
  stack,
  itemStyle: { color },
  barMaxWidth: 40,
});

const timeAxis = (name) => ({
  type: "value",
  name,
  nameGap: 52,
  axisLabel: { formatter: (us) => (us === 0 ? "0" : timeText(us).replace(/\.0+ /, " ")) },
});

/** Percentiles of the run, of an earlier one and of the baseline beside it. */
export function latency(run, earlier) {
  if (run.bench === null) return null;
  const lines = operations.map((name) => ({
    name,
    of: run.bench[name].time_us,
    operation: name,
    style: "solid",
  }));
  if (earlier)
    for (const name of operations)
      lines.push({
        name: `${name}, earlier`,
        of: earlier.bench[name].time_us,
        operation: name,
        style: "dashed",
      });
  const baseline = run.bench.baseline;
  if (baseline)
    for (const name of operations)
      if (baseline[name])
        lines.push({
          name: `${name}, ${baseline.name}`,
          of: baseline[name].time_us,
          operation: name,
          style: "dotted",
        });
  const all = lines.flatMap((line) => percentiles.map((p) => line.of[p]));
  const isWide = Math.max(...all) > 20 * Math.min(...all);
  return chart({
    id: "latency",
    title: "Latency",
    says:
      "Time of the slowest rank, percentiles over iterations; lower is better." +
      (isWide ? " The axis is logarithmic." : ""),
    option: (colours) => ({
      xAxis: { type: "category", data: percentiles, boundaryGap: false },
      yAxis: { ...timeAxis("time"), type: isWide ? "log" : "value", min: isWide ? undefined : 0 },
      series: lines.map((line) => ({
        type: "line",
        name: line.name,
        data: percentiles.map((p) => line.of[p]),
        color: colours[line.operation],
        symbol: line.operation === "dispatch" ? "circle" : "rect",
        symbolSize: 8,
        lineStyle: { type: line.style, width: 2 },
        tooltip: { valueFormatter: timeText },
      })),
    }),
    heads: ["", ...percentiles],
    rows: lines.map((line) => [
      line.name,
      ...percentiles.map((p) => figure(line.of[p], timeText, `latency ${line.name} ${p}`)),
    ]),
  });
}

/** What each rank spends waiting for its peers. */
export function waits(run) {
  const ranks = run.bench?.dispatch.per_rank;
  if (!ranks) return null;
  const of = (operation, rank) => run.bench[operation].per_rank[rank];
  const rest = (operation, rank) =>
    Math.max(0, of(operation, rank).time_us - of(operation, rank).wait_us);
  const all = ranks.map((_, rank) => rank);
  return chart({
    id: "waits",
    title: "Waits of each rank",
    says: "Median time of each rank: the pale part is spent waiting for peers to arrive.",
    option: (colours) => ({
      xAxis: { type: "category", data: all.map(String), name: "rank", nameGap: 26 },
      yAxis: timeAxis("time"),
      tooltip: { valueFormatter: timeText },
      series: operations.flatMap((name) => [
        bar(
          `${name}: its own part`,
          all.map((rank) => rest(name, rank)),
          colours[name],
          name,
        ),
        bar(
          `${name}: waiting`,
          all.map((rank) => of(name, rank).wait_us),
          colours[`${name}Light`],
          name,
        ),
      ]),
    }),
    heads: ["rank", ...operations.flatMap((name) => [`${name}, time`, `${name}, waiting`])],
    rows: all.map((rank) => [
      String(rank),
      ...operations.flatMap((name) => [
        figure(of(name, rank).time_us, timeText, `rank ${rank} ${name} time_us`),
        figure(of(name, rank).wait_us, timeText, `rank ${rank} ${name} wait_us`),
      ]),
    ]),
  });
}

/** What a GPU does in a call. */
export function phases(run) {
  const of = (name) => run.bench?.[name].phases_us;
  const there = operations.filter(of);
  if (there.length === 0) return null;
  const says = {
    prepare: "before peers are told",
    wait: "until peers are there",
    move: "its own rows",
    finish: "until peers' rows are there",
  };
  const names = Object.keys(of(there[0]));
  return chart({
    id: "phases",
    title: "Phases on the GPU",
    says: "Median time that the first block of each kernel spends in each phase.",
    height: 220,
    option: (colours) => ({
      xAxis: { ...timeAxis("time"), nameGap: 26 },
      yAxis: { type: "category", data: [...there].reverse() },
      tooltip: { valueFormatter: timeText },
      series: names.map((phase, i) =>
        bar(
          says[phase] ? `${phase}: ${says[phase]}` : phase,
          [...there].reverse().map((name) => of(name)[phase]),
          colours.series[i % colours.series.length],
          "phases",
        ),
      ),
    }),
    heads: ["", ...names],
    rows: there.map((name) => [
      name,
      ...names.map((phase) => figure(of(name)[phase], timeText, `phase ${name} ${phase}`)),
    ]),
  });
}

const heat = (data, format) => ({
  type: "heatmap",
  data,
  progressive: 0,
  emphasis: { itemStyle: { borderWidth: 1 } },
  tooltip: { formatter: format },
});

/** Which rank sends how much to which. */
export function traffic(run) {
  const rows = run.traffic?.rows_to_rank;
  if (!rows) return null;
  const bytes = rows.map((row) => row.map((count) => count * run.traffic.row_bytes));
  const ranks = rows.map((_, rank) => String(rank));
  const all = bytes.flat();
  return chart({
    id: "traffic",
    title: "Traffic from rank to rank",
    says: "Bytes that dispatch moves; combine moves the same back. On the diagonal stays what is a rank's own.",
    height: 360,
    cells: all.length,
    option: (colours) => ({
      xAxis: { type: "category", data: ranks, name: "to rank", nameGap: 26 },
      yAxis: { type: "category", data: ranks, name: "from rank", nameGap: 32, inverse: true },
      grid: { top: 40 },
      visualMap: {
        min: Math.min(...all),
        max: Math.max(...all),
        formatter: bytesText,
        text: [bytesText(Math.max(...all)), bytesText(Math.min(...all))],
      },
      series: [
        {
          ...heat(
            bytes.flatMap((row, from) => row.map((value, to) => [to, from, value])),
            ({ value }) => `from rank ${value[1]} to rank ${value[0]}: ${bytesText(value[2])}`,
          ),
          itemStyle: { borderColor: colours.surface, borderWidth: all.length > 1024 ? 0 : 1 },
        },
      ],
    }),
    heads: ["from \\ to", ...ranks],
    rows: bytes.map((row, from) => [
      String(from),
      ...row.map((value, to) => figure(value, bytesText, `traffic ${from} ${to}`)),
    ]),
  });
}

/** How many tokens each expert gets. */
export function load(run) {
  const tokens = run.traffic?.tokens_of_expert;
  if (!tokens) return null;
  const columns = Math.min(16, tokens.length);
  const lines = Math.ceil(tokens.length / columns);
  const mean = tokens.reduce((sum, count) => sum + count, 0) / tokens.length;
  const most = Math.max(...tokens);
  const busiest = tokens.indexOf(most);
  return chart({
    id: "load",
    title: "Load of the experts",
    says:
      `Tokens that go to each expert, ${columns} experts a line. Expert ${busiest} gets most: ` +
      `${countText(most)}, ${mean > 0 ? (most / mean).toFixed(2) : "–"} times the mean.`,
    height: Math.max(200, 88 + 26 * lines),
    cells: tokens.length,
    option: (colours) => ({
      xAxis: {
        type: "category",
        data: Array.from({ length: columns }, (_, i) => `+${i}`),
        name: "expert",
        nameGap: 26,
      },
      yAxis: {
        type: "category",
        data: Array.from({ length: lines }, (_, i) => String(i * columns)),
        inverse: true,
      },
      grid: { top: 40 },
      visualMap: {
        min: Math.min(...tokens),
        max: most,
        text: [countText(most), countText(Math.min(...tokens))],
      },
      series: [
        {
          ...heat(
            tokens.map((count, i) => [i % columns, Math.floor(i / columns), count]),
            ({ value }) => `expert ${value[1] * columns + value[0]}: ${countText(value[2])} tokens`,
          ),
          itemStyle: { borderColor: colours.surface, borderWidth: 1 },
        },
      ],
    }),
    heads: ["expert", "tokens"],
    rows: tokens.map((count, i) => [String(i), figure(count, countText, `expert ${i}`)]),
  });
}

/** Wire bandwidth over tokens or ranks; null without a sweep of them. */
export function bandwidth(runs, sources, axis) {
  const lines = linesOver(runs, sources, axis);
  if (lines.length === 0) return null;
  const all = [...new Set(lines.flatMap((line) => line.points.map((point) => point.x)))].sort(
    (one, other) => one - other,
  );
  const kinds = [
    { name: "dispatch", symbol: "circle", style: "solid" },
    { name: "combine", symbol: "rect", style: "dashed" },
    { name: "ceiling", symbol: "none", style: "dotted" },
  ];
  const named = (line, kind) => (line.label ? `${line.label}: ${kind}` : kind);
  return chart({
    id: `over-${axis}`,
    title: axis === "tokens" ? "Bandwidth against tokens" : "Bandwidth against ranks",
    says:
      "GB/s on the wire that a rank receives, of the median time; higher is better. " +
      "The ceiling is the same copies without an exchange.",
    height: lines.length > 2 ? 380 : 320,
    option: (colours) => ({
      xAxis: {
        type: "category",
        data: all.map(String),
        name: axis === "tokens" ? "tokens a rank" : "ranks",
        nameGap: 26,
      },
      yAxis: { type: "value", name: "GB/s", nameGap: 40, min: 0 },
      grid: { top: 36 + 24 * lines.length },
      tooltip: { valueFormatter: rateText },
      series: lines.flatMap((line, i) =>
        kinds.map(({ name, symbol, style }) => ({
          type: "line",
          name: named(line, name),
          data: all.map((x) => line.points.find((point) => point.x === x)?.[name] ?? null),
          connectNulls: true,
          symbol,
          symbolSize: 8,
          color: lines.length === 1 ? colours[name] : colours.series[i % colours.series.length],
          lineStyle: { type: style, width: name === "ceiling" ? 1.5 : 2 },
        })),
      ),
    }),
    heads: [
      axis === "tokens" ? "tokens a rank" : "ranks",
      ...lines.flatMap((line) => kinds.map((kind) => named(line, kind.name))),
    ],
    rows: all.map((x) => [
      String(x),
      ...lines.flatMap((line) =>
        kinds.map(({ name }) =>
          figure(line.points.find((point) => point.x === x)?.[name], rateText),
        ),
      ),
    ]),
  });
}

/** Speeds against 1, as bars. */
export function speeds(id, title, rows) {
  if (rows.length === 0) return null;
  const shown = [...rows].reverse();
  return chart({
    id,
    title,
    says: "The earlier median time over the later one: above 1 it became faster, below 1 slower.",
    height: 100 + 28 * rows.length,
    option: (colours) => ({
      xAxis: { type: "value", name: "times the earlier speed", nameGap: 26, min: 0 },
      yAxis: {
        type: "category",
        data: shown.map((row) => row.label),
        axisLabel: { width: innerWidth > 700 ? 300 : 150, overflow: "truncate" },
      },
      grid: { top: 16, right: 52 },
      legend: { show: false },
      tooltip: { valueFormatter: speedText },
      series: [
        {
          type: "bar",
          barMaxWidth: 18,
          data: shown.map((row) => ({
            value: row.speed,
            itemStyle: {
              color:
                colours[{ faster: "good", slower: "bad", same: "ceiling" }[speedKind(row.speed)]],
            },
          })),
          label: {
            show: true,
            position: "right",
            color: colours.text,
            formatter: ({ value }) => speedText(value),
          },
          markLine: {
            symbol: "none",
            silent: true,
            label: { show: false },
            lineStyle: { color: colours.text, type: "solid", width: 1 },
            data: [{ xAxis: 1 }],
          },
        },
      ],
    }),
    heads: ["", "speed"],
    rows: rows.map((row) => [row.label, figure(row.speed, speedText)]),
  });
}
