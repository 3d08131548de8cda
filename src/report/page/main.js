// SPDX-License-Identifier: Apache-2.0
// Builds the page from the data in it (schema moxie.report/1, docs/report.md).
import { forgetCharts } from "./charts.js";
import { button, choice, element, section, table } from "./dom.js";
import { downloads } from "./download.js";
import { bandwidth, latency, load, phases, speeds, traffic, waits } from "./figures.js";
import {
  bytesText,
  countText,
  figure,
  rateText,
  shareText,
  speedKind,
  speedText,
  stampText,
  timeText,
} from "./format.js";
import {
  compare,
  hasPassed,
  listRuns,
  operations,
  shapeText,
  sourceNames,
  sourcesOf,
} from "./runs.js";
import { tuning } from "./tuning.js";

const data = JSON.parse(document.getElementById("data").textContent);
const sources = data.sources;
const names = sourceNames(sources);
const runs = listRuns(sources);
const compared = compare(runs);

const hasFailed = (run) => !["passed", "planned", "not_run"].includes(run.status);

function badge(kind, text) {
  const signs = { good: "✓", bad: "✗", plain: "•" };
  return element("span", { class: `badge ${kind}` }, `${signs[kind]} ${text}`);
}

function verdict(run) {
  if (run.bench?.verified && run.status === "passed") return badge("good", "verified");
  if (run.bench && !run.bench.verified) return badge("bad", "NOT VERIFIED");
  return badge(hasFailed(run) ? "bad" : "plain", run.status.replaceAll("_", " "));
}

/** Of the last suite, or of all benchmarks, in one line, with the reasons of what failed. */
function verdictOfAll() {
  const { at } = runs.at(-1);
  const isBench = (run) => sources[run.at].kind === "bench";
  const last = runs.filter((run) => run.at === at || (isBench(run) && isBench(runs.at(-1))));
  const failed = last.filter(hasFailed);
  const idle = last.filter((run) => ["planned", "not_run"].includes(run.status)).length;
  const good = last.filter(hasPassed).length;
  return element(
    "div",
    {},
    element(
      "p",
      { class: "verdicts" },
      good > 0 ? badge("good", good === 1 ? "1 run verified" : `${good} runs verified`) : null,
      failed.length > 0
        ? badge("bad", failed.length === 1 ? "1 run FAILED" : `${failed.length} runs FAILED`)
        : null,
      idle > 0 ? badge("plain", `${idle} not run`) : null,
    ),
    ...failed.map((run) =>
      element(
        "p",
        { class: "reason" },
        `${run.name}: ${run.status.replaceAll("_", " ")}. ${run.reason}`,
      ),
    ),
  );
}

function title() {
  const last = sources.at(-1);
  if (last.kind === "suite") return `Suite ${last.record.scenario}`;
  if (last.kind === "tune" && runs.length === 0) return `Tuning: ${last.record.setup.shape}`;
  return `Exchange on ${runs.at(-1)?.bench?.ranks ?? last.record.setup.ranks} ranks`;
}

function header() {
  const last = sources.at(-1).record;
  const when = last.started ?? last.timestamp;
  const heading = title();
  document.title = `${heading} · Moxie report`;
  return element(
    "header",
    {},
    element("p", { class: "quiet" }, `Moxie report${when ? ` · ${stampText(when)}` : ""}`),
    element("h1", {}, heading),
    runs.length > 0 ? verdictOfAll() : null,
  );
}

/** How a call compares: with the baseline beside it, the baseline of the suite, earlier results. */
function comparisons(run, operation) {
  const lines = [];
  const beside = run.bench.baseline?.[operation];
  if (beside)
    lines.push([
      `the speed of the baseline ${run.bench.baseline.name}, measured beside it`,
      beside.speedup,
    ]);
  const test = (sources[run.at].record.tests ?? []).find((one) => run.name.endsWith(one.folder));
  const row = sources[run.at].record.baseline?.rows.find(
    (one) => one.id === test?.id && one.step === test?.step && one.operation === operation,
  );
  const earlier = compared.filter(
    (one) => one.key === run.key && one.last === run.at && one.operation === operation,
  );
  for (const one of earlier) lines.push([`the speed of “${names[one.earlier]}”`, one.speed]);
  if (typeof row?.speed === "number" && earlier.length === 0)
    lines.push(["the speed of the baseline", row.speed]);
  return lines.map(([words, speed]) =>
    element(
      "p",
      { class: speedKind(speed) },
      figure(speed, speedText, `speed ${operation}`),
      ` ${words}`,
    ),
  );
}

function card(run, operation) {
  const call = run.bench[operation];
  const share = call.ceiling_share;
  const width = `${Math.round(100 * Math.min(1, share))}%`;
  return element(
    "div",
    { class: `card ${operation}` },
    element("h3", {}, operation),
    element("p", { class: "large" }, figure(call.time_us.p50, timeText, `${operation} p50`)),
    element(
      "p",
      {},
      figure(call.wire_gbps, rateText, `${operation} wire_gbps`),
      " on the wire · ",
      figure(call.logical_gbps, rateText, `${operation} logical_gbps`),
      " logical",
    ),
    element(
      "div",
      { class: "meter", "aria-hidden": "true" },
      element("div", { style: `width: ${width}` }),
    ),
    element(
      "p",
      {},
      figure(share, shareText, `${operation} ceiling_share`),
      " of the ceiling of ",
      figure(run.bench.ceiling.wire_gbps, rateText, "ceiling"),
    ),
    ...comparisons(run, operation),
  );
}

/** The run of this key that was there before. */
function earlierOf(run) {
  const before = sourcesOf(runs, run.key).filter((at) => at < run.at);
  return runs.find((one) => one.key === run.key && one.at === before.at(-1) && hasPassed(one));
}

function commandOf(run) {
  if (run.command === "") return null;
  const copied = element("span", { role: "status" });
  return element(
    "div",
    { class: "command" },
    element(
      "code",
      { tabindex: 0 },
      ...run.command.split(/( )/).map((word) => (word === " " ? word : element("span", {}, word))),
    ),
    button("Copy", async () => {
      await navigator.clipboard.writeText(run.command);
      copied.textContent = "copied";
    }),
    copied,
  );
}

function knobs(run) {
  const rows = Object.entries(run.bench?.config ?? {}).map(([knob, { value, from }]) => [
    knob,
    String(value),
    from,
  ]);
  return rows.length === 0
    ? null
    : element(
        "details",
        {},
        element("summary", {}, "Knobs, and where their values came from"),
        table("Knobs", ["knob", "value", "from"], rows),
      );
}

/** Everything of one run. */
function showRun(run, place) {
  place.replaceChildren(
    ...[
      element("p", {}, verdict(run), run.bench ? ` ${shapeText(run.bench)}` : ""),
      run.reason ? element("p", { class: "reason" }, run.reason) : null,
      run.bench
        ? element("div", { class: "cards" }, ...operations.map((name) => card(run, name)))
        : null,
      commandOf(run),
      run.bench ? element("p", { class: "quiet" }, `Ceiling: ${run.bench.ceiling.how}.`) : null,
      element(
        "div",
        { class: "figures" },
        latency(run, earlierOf(run)),
        waits(run),
        phases(run),
        traffic(run),
        load(run),
      ),
      knobs(run),
    ].filter((part) => part !== null),
  );
  forgetCharts();
}

/** The one that reached most, of the last source that has any. */
function bestRun() {
  const passed = runs.filter(hasPassed);
  const last = passed.filter((run) => run.at === passed.at(-1).at);
  const rate = (run) => run.bench.dispatch.wire_gbps;
  return passed.length === 0
    ? runs.at(-1)
    : last.reduce((best, run) => (rate(run) > rate(best) ? run : best));
}

function runSection() {
  if (runs.length === 0) return null;
  const best = bestRun();
  const place = element("div", { id: "run-shown" });
  showRun(best, place);
  const choices =
    runs.length === 1
      ? null
      : element(
          "p",
          { class: "choices" },
          choice(
            "Shown",
            runs.map(
              (run) =>
                run.name +
                (run.bench
                  ? ` (${run.bench.ranks} ranks, ${run.bench.tokens} tokens)`
                  : ` (${run.status})`),
            ),
            runs.indexOf(best),
            (index) => showRun(runs[index], place),
          ),
          element(
            "span",
            { class: "quiet" },
            "First shown is the run with the highest dispatch bandwidth.",
          ),
        );
  return section("run", "Result", choices, place);
}

function runTable() {
  if (runs.length < 2) return null;
  const rows = runs.flatMap((run) =>
    run.bench === null
      ? [[run.name, verdict(run), run.reason]]
      : operations.map((name) => [
          run.name,
          verdict(run),
          name,
          figure(run.bench.ranks, countText),
          figure(run.bench.tokens, countText),
          figure(run.bench[name].time_us.p50, timeText, `run ${run.name} ${name} p50`),
          figure(
            run.bench[name].logical_gbps,
            (rate) => rate.toFixed(2),
            `run ${run.name} ${name} logical_gbps`,
          ),
          figure(
            run.bench[name].wire_gbps,
            (rate) => rate.toFixed(2),
            `run ${run.name} ${name} wire_gbps`,
          ),
          figure(run.bench[name].ceiling_share, shareText, `run ${run.name} ${name} ceiling_share`),
        ]),
  );
  return section(
    "runs",
    "All runs",
    table(
      "Medians; GB/s that a rank receives, mean over the ranks",
      ["run", "", "call", "ranks", "tokens", "time", "logical GB/s", "wire GB/s", "of the ceiling"],
      rows,
    ),
  );
}

function scaling() {
  return section(
    "scaling",
    "Bandwidth",
    element(
      "div",
      { class: "figures" },
      bandwidth(runs, sources, "tokens"),
      bandwidth(runs, sources, "ranks"),
    ),
  );
}

const machineOf = (source) => source.record.machine ?? null;

function comparisonSection() {
  if (compared.length === 0) return null;
  const others = compared.some(
    (row) =>
      JSON.stringify(machineOf(sources[row.earlier])) !==
      JSON.stringify(machineOf(sources[row.last])),
  );
  const isOne = new Set(compared.map((row) => row.earlier)).size === 1;
  const label = (row) =>
    `${row.name} ${row.operation}${isOne ? "" : `, over ${names[row.earlier]}`}`;
  return section(
    "comparison",
    "Against earlier results",
    others
      ? element("p", { class: "reason" }, "Not all of it was measured on the same machine.")
      : null,
    speeds(
      "speeds",
      "Speed",
      compared.map((row) => ({ label: label(row), speed: row.speed })),
    ),
    table(
      "The last results against each of the earlier ones",
      ["run", "call", "earlier", "earlier time", "time", "speed"],
      compared.map((row) => [
        row.name,
        row.operation,
        names[row.earlier],
        figure(row.earlierUs, timeText),
        figure(row.nowUs, timeText),
        figure(row.speed, speedText, `compared ${row.name} ${row.operation}`),
      ]),
    ),
  );
}

/** What the suite itself found with --baseline. */
function baselineSection() {
  const there = sources.filter((source) => source.record.baseline?.rows);
  return section(
    "baseline",
    "Against the baseline of the suite",
    ...there.flatMap(({ record: { baseline } }) => [
      element(
        "p",
        {},
        `${baseline.folder}: ${baseline.compared} calls compared, ${baseline.regressions} slower than allowed.`,
        baseline.same_machine ? "" : " It was measured on another machine.",
      ),
      table(
        `Against ${baseline.folder}`,
        ["test", "call", "baseline", "time", "speed", ""],
        baseline.rows.map((row) => [
          row.test,
          row.operation,
          figure(row.earlier_us, timeText),
          figure(row.now_us, timeText),
          figure(row.speed, speedText),
          row.is_regression ? badge("bad", "slower") : (row.why ?? ""),
        ]),
      ),
    ]),
  );
}

function tuningSection() {
  const tunings = sources.map((source, at) => (source.kind === "tune" ? tuning(source, at) : null));
  return section("tuning", "Tuning", ...tunings);
}

function machineRows(machine) {
  const gpus = machine.gpus?.devices ?? [];
  return [
    ["processor", machine.cpu],
    [
      "cores",
      `${machine.cores}, ${machine.numa_nodes} NUMA node${machine.numa_nodes === 1 ? "" : "s"}`,
    ],
    ["instructions", machine.isa],
    ["memory", bytesText(machine.memory_bytes)],
    [
      "GPUs",
      gpus.length > 0 ? gpus.map((gpu) => gpu.name).join(", ") : (machine.gpus?.missing ?? ""),
    ],
    ["system", `${machine.os}, Linux ${machine.kernel}`],
  ].filter(([, text]) => text);
}

function sourceDetails(source, name) {
  const record = source.record;
  const rows = [
    ["folder", source.path],
    [
      "made by",
      source.kind === "tune"
        ? `moxie tune ${record.version}`
        : `moxie ${source.kind} ${record.version}`,
    ],
    ...(source.kind === "suite" ? [["command", record.command.join(" ")]] : []),
    ...(record.notes ?? []).map((note) => ["note", note]),
    ...(record.machine ? machineRows(record.machine) : [["machine", record.setup?.machine ?? ""]]),
  ];
  return table(name, [], rows);
}

function build() {
  const parts = [
    header(),
    runSection(),
    comparisonSection(),
    baselineSection(),
    scaling(),
    runTable(),
    tuningSection(),
    section(
      "sources",
      "Machine and command",
      element(
        "div",
        { class: "figures" },
        ...sources.map((source, i) => sourceDetails(source, names[i])),
      ),
    ),
    section("data-files", "Data", downloads(data, runs)),
    element(
      "footer",
      { class: "quiet" },
      `Made by moxie ${data.version}. Nothing in this file is loaded from anywhere.`,
    ),
  ];
  document.getElementById("report").replaceChildren(...parts.filter((part) => part !== null));
  for (const empty of document.querySelectorAll(".figures:empty"))
    empty.closest("#scaling")?.remove();
}

try {
  build();
} catch (error) {
  const says = `These records cannot be shown: ${error.message}`;
  document.getElementById("report").replaceChildren(element("p", { class: "reason" }, says));
  throw error;
}
