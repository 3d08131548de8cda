// SPDX-License-Identifier: Apache-2.0
// What was measured, as a flat list of runs, and which of them can be compared.

export const operations = ["dispatch", "combine"];

/**
 * @typedef {object} Run
 * @property {number} at        index of its source
 * @property {string} name      within the report
 * @property {string} status
 * @property {string} reason    why it did not pass
 * @property {any} bench        the record of moxie bench; null: none
 * @property {any} traffic      null: not recorded
 * @property {string} command   "": not recorded
 * @property {string} key       runs with the same key do the same
 */

/** What decides how much is moved, and how. */
const shape = [
  "backend",
  "mode",
  "layout",
  "direction",
  "route",
  "launch",
  "dtype",
  "quantize",
  "ranks",
  "tokens",
  "hidden",
  "experts",
  "topk",
  "routing",
];

const baseName = (path) => path.replace(/\/+$/, "").split("/").pop();

/** The name of a source: its folder, the whole path where that is not enough. */
export function sourceNames(sources) {
  const names = sources.map((source) => baseName(source.path));
  return sources.map((source, i) =>
    names.filter((name) => name === names[i]).length > 1 ? source.path : names[i],
  );
}

/** @returns {Run} */
function suiteRun(source, at, test, prefix) {
  const record = (source.runs ?? []).find((run) => run.folder === test.folder);
  const bench = record?.bench ?? null;
  const values = (bench && shape.map((name) => bench[name])) ?? [];
  return {
    at,
    name: prefix + (test.folder ?? test.id),
    status: test.status,
    reason: test.reason ?? "",
    bench,
    traffic: record?.traffic ?? null,
    command: record?.command ?? "",
    key: JSON.stringify(["suite", test.id, test.step, ...values]),
  };
}

/** @returns {Run} */
function benchRun(source, at, prefix) {
  const bench = source.record;
  return {
    at,
    name: prefix || baseName(source.path),
    status: bench.verified ? "passed" : "mismatch",
    reason: "",
    bench,
    traffic: null,
    command: bench.command ?? "",
    key: JSON.stringify(["bench", ...shape.map((name) => bench[name])]),
  };
}

/** All runs, in the order of the sources. @returns {Run[]} */
export function listRuns(sources) {
  const names = sourceNames(sources);
  const measured = sources.filter((source) => source.kind !== "tune").length;
  return sources.flatMap((source, at) => {
    if (source.kind === "suite")
      return source.record.tests.map((test) =>
        suiteRun(source, at, test, measured > 1 ? `${names[at]}: ` : ""),
      );
    return source.kind === "bench" ? [benchRun(source, at, names[at])] : [];
  });
}

export const timeOf = (run, operation) => run.bench?.[operation]?.time_us?.p50;
export const hasPassed = (run) => run.status === "passed" && run.bench !== null;

function median(numbers) {
  const sorted = [...numbers].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median time of runs that do the same in one source; undefined: none passed. */
function timeIn(runs, at, key, operation) {
  const times = runs
    .filter((run) => run.at === at && run.key === key && hasPassed(run))
    .map((run) => timeOf(run, operation));
  return times.length > 0 ? median(times) : undefined;
}

/** The sources that hold a run of this key which passed, in order. */
export function sourcesOf(runs, key) {
  return [...new Set(runs.filter((run) => run.key === key && hasPassed(run)).map((run) => run.at))];
}

/**
 * Everything that was measured in several sources: the last against each of the earlier ones. Speed
 * is the earlier time over the last one's.
 */
export function compare(runs) {
  const rows = [];
  for (const key of new Set(runs.map((run) => run.key))) {
    const sources = sourcesOf(runs, key);
    const last = sources.pop();
    for (const earlier of sources)
      for (const operation of operations) {
        const earlierUs = timeIn(runs, earlier, key, operation);
        const nowUs = timeIn(runs, last, key, operation);
        const name = runs.find((run) => run.key === key && run.at === last).name;
        rows.push({
          name,
          key,
          earlier,
          last,
          operation,
          earlierUs,
          nowUs,
          speed: earlierUs / nowUs,
        });
      }
  }
  return rows;
}

/** What a run did, in a few words. */
export function shapeText(bench) {
  const count = (value, noun) => `${value.toLocaleString("en-US")} ${noun}`;
  return [
    `${bench.ranks} ranks`,
    count(bench.tokens, "tokens a rank"),
    `hidden ${bench.hidden}`,
    count(bench.experts, "experts"),
    `top-${bench.topk}`,
    bench.dtype,
    `${bench.mode} mode`,
    bench.layout,
    bench.direction,
    `routing ${bench.routing}`,
    `backend ${bench.backend}`,
  ].join(" · ");
}

/**
 * Runs that differ in one number only, as lines: {label, points}, at least two points each; of the
 * last suite, and of all benchmarks together.
 *
 * @param {Run[]} runs
 * @param {any[]} sources
 * @param {"tokens" | "ranks"} axis
 */
export function linesOver(runs, sources, axis) {
  const rest = shape.filter((name) => name !== axis);
  const groups = new Map();
  const lastSuite = sources.findLastIndex((source) => source.kind === "suite");
  const isSuite = (run) => sources[run.at].kind === "suite";
  for (const run of runs.filter(
    (one) => hasPassed(one) && (!isSuite(one) || one.at === lastSuite),
  )) {
    const values = [isSuite(run) ? "suite" : "bench", ...rest.map((name) => run.bench[name])];
    const key = JSON.stringify(values);
    if (!groups.has(key)) groups.set(key, { values, runs: [] });
    groups.get(key).runs.push(run);
  }
  const lines = [...groups.values()].filter(
    (group) => new Set(group.runs.map((run) => run.bench[axis])).size > 1,
  );
  const names = ["", ...rest];
  const differing = names
    .map((_, i) => i)
    .filter((i) => new Set(lines.map((line) => line.values[i])).size > 1);
  return lines.map((line) => ({
    label: differing
      .map((i) => (i === 0 ? line.values[0] : `${line.values[i]} ${names[i]}`))
      .join(", "),
    points: medianPoints(line.runs, axis),
  }));
}

/** One point for each x: the medians of its runs. */
function medianPoints(runs, axis) {
  const all = [...new Set(runs.map((run) => run.bench[axis]))].sort((one, other) => one - other);
  return all.map((x) => {
    const here = runs.filter((run) => run.bench[axis] === x);
    const of = (number) => median(here.map((run) => number(run.bench)));
    return {
      x,
      dispatch: of((bench) => bench.dispatch.wire_gbps),
      combine: of((bench) => bench.combine.wire_gbps),
      ceiling: of((bench) => bench.ceiling.wire_gbps),
    };
  });
}
