// SPDX-License-Identifier: Apache-2.0
// What moxie tune found: the verdict, its gain, and the landscape of the settings that it measured.
import { chart, forgetCharts } from "./charts.js";
import { choice, element, table } from "./dom.js";
import { figure, shareText, timeText } from "./format.js";
import { operations } from "./runs.js";

const settingText = (setting) =>
  Object.entries(setting ?? {})
    .map(([knob, value]) => `${knob}=${value}`)
    .join(" ");

const gainText = (gain) =>
  `${(100 * gain.gain).toFixed(1)}% ± ${(100 * gain.standard_error).toFixed(1)}%`;

/** Candidates that were measured. */
const measured = (phase) => phase.candidates.filter((candidate) => candidate.time_us !== null);

/** Knobs of which several values were measured, most values first: [name, values]. */
function variedKnobs(phase) {
  const candidates = measured(phase);
  return Object.keys(candidates[0]?.setting ?? {})
    .map((name) => [
      name,
      [...new Set(candidates.map((candidate) => candidate.setting[name]))].sort((a, b) => a - b),
    ])
    .filter(([, values]) => values.length > 1)
    .sort((one, other) => other[1].length - one[1].length);
}

/** Anything slower has the colour of this: what matters lies near 1. */
const slowest = 2;

/** The smallest time over the default's for each pair of values: [x, y, ratio, ratio of the colour]. */
function bestOfCells(phase, across, up) {
  const cells = new Map();
  for (const { setting, relative } of measured(phase)) {
    const x = across[1].indexOf(setting[across[0]]);
    const y = up ? up[1].indexOf(setting[up[0]]) : 0;
    const at = `${x},${y}`;
    if (!cells.has(at) || cells.get(at)[2] > relative)
      cells.set(at, [x, y, relative, Math.min(relative, slowest)]);
  }
  return [...cells.values()];
}

/** Of two knobs; `up` is undefined where only one was varied. */
function landscape(id, phase, across, up) {
  const cells = bestOfCells(phase, across, up);
  const [fast, slow] = [Math.min, Math.max].map((end) => end(...cells.map((cell) => cell[3])));
  const ups = up ? up[1].map(String) : [""];
  const words = ([x, y]) => `${across[0]}=${across[1][x]}${up ? `, ${up[0]}=${up[1][y]}` : ""}`;
  return chart({
    id,
    title: `Settings: ${across[0]}${up ? ` and ${up[0]}` : ""}`,
    says:
      "The best time with each pair of values over the default's: below 1 is faster. " +
      "Empty: not measured.",
    height: 120 + 34 * Math.max(3, ups.length),
    cells: cells.length,
    option: (colours) => ({
      xAxis: {
        type: "category",
        data: across[1].map(String),
        name: across[0],
        nameGap: 34,
        axisLabel: { hideOverlap: true },
      },
      yAxis: { type: "category", data: ups, name: up?.[0] ?? "", nameGap: 84 },
      grid: { top: 44 },
      visualMap: {
        dimension: 3,
        min: fast,
        max: slow,
        inRange: { color: [...colours.heat].reverse() },
        text: [
          slow === slowest ? `slow: ${slow} or more` : `slow: ${slow.toFixed(2)}`,
          `fast: ${fast.toFixed(2)}`,
        ],
      },
      series: [
        {
          type: "heatmap",
          data: cells,
          label: { show: cells.length <= 60, formatter: ({ value }) => value[2].toFixed(2) },
          itemStyle: { borderColor: colours.surface, borderWidth: 2 },
          tooltip: { formatter: ({ value }) => `${words(value)}: ${value[2].toFixed(3)}` },
        },
      ],
    }),
    heads: ["setting", "time over the default's"],
    rows: [...cells]
      .sort((one, other) => one[2] - other[2])
      .map((cell) => [words(cell), figure(cell[2], (ratio) => ratio.toFixed(3))]),
  });
}

/** A landscape with a choice of its two knobs. */
function explorer(id, phase) {
  const knobs = variedKnobs(phase);
  if (knobs.length === 0) return null;
  const place = element("div");
  let [x, y] = [0, Math.min(1, knobs.length - 1)];
  const show = () => {
    place.replaceChildren(landscape(`${id}-map`, phase, knobs[x], x === y ? undefined : knobs[y]));
    forgetCharts();
  };
  show();
  const names = knobs.map(([name, values]) => `${name} (${values.length} values)`);
  const choices =
    knobs.length < 3
      ? null
      : element(
          "p",
          { class: "choices" },
          choice("across", names, x, (index) => {
            x = index;
            show();
          }),
          choice("up", names, y, (index) => {
            y = index;
            show();
          }),
        );
  return element("div", {}, choices, place);
}

function candidateTable(phase) {
  const sorted = [...phase.candidates].sort(
    (one, other) => (one.relative ?? Infinity) - (other.relative ?? Infinity),
  );
  return element(
    "details",
    {},
    element("summary", {}, `What became of all ${sorted.length} settings`),
    table(
      `Settings of the search "${phase.name}"`,
      ["setting", "time", "over the default's", "fate"],
      sorted.map((candidate) => [
        settingText(candidate.setting),
        figure(candidate.time_us, timeText),
        figure(candidate.relative, (ratio) => ratio.toFixed(3)),
        candidate.error ?? candidate.fate ?? "",
      ]),
    ),
  );
}

function performanceTable(record) {
  const rows = operations.flatMap((name) =>
    ["optimal", "default", "fastest", "worst"]
      .map((which) => [which, record.performance[name]?.[which]])
      .filter(([, figures]) => figures)
      .map(([which, figures]) => [
        `${name}, ${which}`,
        figure(figures.time_us, timeText, `tune ${name} ${which}`),
        figure(figures.logical_gbps, (rate) => rate.toFixed(2)),
        figure(figures.wire_gbps, (rate) => rate.toFixed(2)),
        settingText(figures.setting),
      ]),
  );
  return rows.length === 0
    ? null
    : table("Times of the settings", ["", "time", "logical GB/s", "wire GB/s", "setting"], rows);
}

/** One result of moxie tune. */
export function tuning(source, at) {
  const record = source.record;
  const setup = record.setup;
  const gain = record.performance.both?.over_default;
  const notes = [
    record.noisy &&
      `The machine is noisy: the default itself varies by ${shareText(record.noise)}.`,
    record.out_of_time && "The time limit ended a search.",
    record.stopped && "It was stopped before its end.",
  ].filter(Boolean);
  return element(
    "article",
    {},
    element("h3", {}, `${setup.shape}, ${setup.ranks} ranks, ${setup.backend}, ${setup.variant}`),
    element(
      "p",
      {},
      element("strong", {}, record.verdict),
      gain ? ` Gain over the default, both calls: ${gainText(gain)} (standard error).` : "",
    ),
    element(
      "p",
      { class: "quiet" },
      `${setup.tokens} tokens a rank, hidden ${setup.hidden}, ${setup.experts} experts, top-${setup.topk}, ` +
        `routing ${setup.routing}; ${record.measured + record.resumed} measurements. ${notes.join(" ")}`,
    ),
    performanceTable(record),
    ...record.phases.flatMap((phase, i) => [
      record.phases.length > 1 ? element("h4", {}, `Search: ${phase.name}`) : null,
      explorer(`tuning-${at}-${i}`, phase),
      candidateTable(phase),
    ]),
  );
}
