// SPDX-License-Identifier: Apache-2.0
// Files made of the data in the page.
import { button, element } from "./dom.js";
import { operations } from "./runs.js";

function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Quoted as RFC 4180 says; no cell begins as a formula. */
function cell(value) {
  if (value === undefined || value === null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const settings = [
  "backend",
  "mode",
  "layout",
  "direction",
  "dtype",
  "ranks",
  "tokens",
  "hidden",
  "experts",
  "topk",
  "routing",
];
const times = ["min", "p50", "p90", "p99", "max"];
const rates = ["logical_bytes", "wire_bytes", "logical_gbps", "wire_gbps", "ceiling_share"];

function csv(runs) {
  const heads = [
    "run",
    "status",
    "verified",
    "operation",
    ...settings,
    ...times.map((name) => `time_us_${name}`),
    "wait_us_p50",
    ...rates,
  ];
  const rows = runs.flatMap((run) =>
    run.bench === null
      ? [[run.name, run.status]]
      : operations.map((name) => [
          run.name,
          run.status,
          String(run.bench.verified),
          name,
          ...settings.map((key) => run.bench[key]),
          ...times.map((key) => run.bench[name].time_us[key]),
          run.bench[name].wait_us?.p50,
          ...rates.map((key) => run.bench[name][key]),
        ]),
  );
  return [heads, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** The buttons. */
export function downloads(data, runs) {
  return element(
    "p",
    { class: "buttons" },
    button("Download everything (JSON)", () =>
      save("moxie-report.json", "application/json", JSON.stringify(data, null, 2)),
    ),
    runs.length === 0
      ? null
      : button("Download the runs (CSV)", () => save("moxie-runs.csv", "text/csv", csv(runs))),
  );
}
