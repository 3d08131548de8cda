// SPDX-License-Identifier: Apache-2.0
// The page of moxie report in headless Chromium: of records that this build measures now, charts are
// drawn, nothing is asked of a network, no error is told, what stands in the page is what stands in the
// records, markup in names stays text, and files can be downloaded. Leaves pictures for people.
//
//   node test_page.mjs MOXIE NPM_FOLDER PICTURES_FOLDER     77: cannot run here
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [moxie, packages, pictures] = process.argv.slice(2).map((path) => resolve(path));
const operations = ["dispatch", "combine"];

function skip(why) {
  console.log(`SKIPPED: ${why}`);
  process.exit(77);
}

const folders = (process.env.PATH ?? "").split(":");
const browserPath = ["chromium", "chromium-browser", "google-chrome"]
  .flatMap((name) => folders.map((folder) => join(folder, name)))
  .find((path) => existsSync(path));
if (browserPath === undefined) skip("no Chromium is installed (the package chromium)");
if (!existsSync(join(packages, "node_modules/playwright-core")))
  skip("Playwright was not fetched by npm when this was built");
const { chromium } = createRequire(join(packages, "package.json"))("playwright-core");

const readJson = (...path) => JSON.parse(readFileSync(join(...path), "utf8"));
const runMoxie = (...words) => execFileSync(moxie, words, { encoding: "utf8" });

// Opens a page; what the browser complains of, and what it asks for, fails the test at the end.
async function open(browser, path, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
  const told = [];
  page.on("console", (message) => told.push(message.text()));
  page.on("pageerror", (error) => told.push(error.stack));
  page.on("request", (request) => {
    if (!/^(file|data|blob):/.test(request.url())) told.push(`asked for ${request.url()}`);
  });
  await page.goto(pathToFileURL(path).href);
  await page.waitForFunction(() => {
    const charts = [...document.querySelectorAll(".chart")];
    return charts.length > 0 && charts.every((chart) => chart.querySelector("svg, canvas"));
  });
  return { page, told };
}

// The exact numbers that stand in the page by a name, one for each place.
const numbersOf = (page, name) =>
  page
    .locator(`data[data-name=${JSON.stringify(name)}]`)
    .evaluateAll((all) => all.map((one) => ({ value: Number(one.value), text: one.textContent })));

async function assertNumber(page, name, expected) {
  const there = await numbersOf(page, name);
  assert.ok(there.length > 0, `the page has no number '${name}'`);
  for (const { value, text } of there) {
    assert.equal(value, expected, name);
    // What people read is the same number, rounded.
    const scales = { µs: 1, ms: 1e3, s: 1e6, "%": 0.01, kB: 1e3, MB: 1e6 };
    const [, digits, unit] = /^([\d.,]+)[ ]?(.*)$/.exec(text);
    const read = Number(digits.replaceAll(",", "")) * (scales[unit] ?? 1);
    const step = (scales[unit] ?? 1) * 10 ** -(digits.split(".")[1] ?? "").length;
    assert.ok(Math.abs(read - expected) <= 0.51 * step, `${name}: '${text}' for ${expected}`);
  }
}

async function checkCard(page, bench) {
  for (const name of operations) {
    const call = bench[name];
    await assertNumber(page, `${name} p50`, call.time_us.p50);
    await assertNumber(page, `${name} wire_gbps`, call.wire_gbps);
    await assertNumber(page, `${name} logical_gbps`, call.logical_gbps);
    await assertNumber(page, `${name} ceiling_share`, call.ceiling_share);
    for (const percentile of ["min", "p90", "p99", "max"])
      await assertNumber(page, `latency ${name} ${percentile}`, call.time_us[percentile]);
    for (const [rank, figures] of call.per_rank.entries()) {
      await assertNumber(page, `rank ${rank} ${name} time_us`, figures.time_us);
      await assertNumber(page, `rank ${rank} ${name} wait_us`, figures.wait_us);
    }
  }
}

async function checkTraffic(page, traffic) {
  for (const [from, row] of traffic.rows_to_rank.entries())
    for (const [to, rows] of row.entries())
      await assertNumber(page, `traffic ${from} ${to}`, rows * traffic.row_bytes);
  for (const [expert, tokens] of traffic.tokens_of_expert.entries())
    await assertNumber(page, `expert ${expert}`, tokens);
}

const chooseRun = async (page, test) => {
  await page.locator("#run select").selectOption({
    label: `later: ${test.folder} (${test.ranks} ranks, ${test.parameters.tokens} tokens)`,
  });
  await page.waitForFunction(() => document.querySelector("#latency svg"));
};

// Every chart that these records have data for, drawn: with a shape for each of its numbers at least.
async function checkCharts(page, ranks, experts) {
  await chooseRun(page, { folder: "sweep/0/3", ranks, parameters: { tokens: 128 } });
  const shapes = async (id) => await page.locator(`#${id} svg path`).count();
  assert.ok((await shapes("latency")) >= 2 * 5, "latency: a mark for each percentile");
  assert.ok((await shapes("waits")) >= 4 * ranks, "waits: two bars a rank and call");
  assert.ok((await shapes("traffic")) >= ranks * ranks, "traffic: a cell for each pair of ranks");
  assert.ok((await shapes("load")) >= experts, "load: a cell for each expert");
  assert.ok((await shapes("over-tokens")) >= 8, "bandwidth against tokens");
  assert.ok((await shapes("over-ranks")) >= 8, "bandwidth against ranks");
  assert.ok((await shapes("speeds")) >= 8, "a bar for each comparison");
  assert.ok((await page.locator("#tuning svg").count()) >= 1, "the tuning landscape");
  assert.equal(await page.locator("#phases").count(), 0, "no phases without a GPU");
}

// A run of a suite is shown when it is chosen, with its own numbers.
async function checkRuns(page, folder) {
  const suite = readJson(folder, "suite.json");
  const passed = suite.tests.filter((test) => test.status === "passed");
  assert.equal(passed.length, 4);
  for (const test of passed) {
    const record = readJson(folder, test.folder, "record.json");
    await chooseRun(page, test);
    await checkCard(page, record.bench);
    await checkTraffic(page, record.traffic);
    assert.equal(await page.locator("#run-shown code").textContent(), record.command);
    for (const name of operations) {
      await assertNumber(page, `run later: ${test.folder} ${name} p50`, test[name].time_us);
      await assertNumber(page, `run later: ${test.folder} ${name} wire_gbps`, test[name].wire_gbps);
    }
  }
}

// Against the earlier run: the page computes what the suite computed with --baseline.
async function checkComparison(page, folder) {
  const { rows } = readJson(folder, "suite.json").baseline;
  const compared = rows.filter((row) => row.speed !== null);
  assert.equal(compared.length, 8);
  for (const row of compared) {
    const [shown] = await numbersOf(page, `compared later: sweep/0/${row.step} ${row.operation}`);
    assert.ok(
      Math.abs(shown.value / row.speed - 1) < 1e-6,
      `speed of ${row.test} ${row.operation}`,
    );
  }
}

async function checkTuning(page, folder) {
  const [file] = readdirSync(join(folder, "results"));
  const record = readJson(folder, "results", file);
  const text = await page.locator("#tuning").textContent();
  assert.ok(text.includes(record.verdict), "the verdict of the tuning");
  for (const name of operations)
    await assertNumber(page, `tune ${name} optimal`, record.performance[name].optimal.time_us);
}

// Keyboard, labels, contrast.
async function checkAccess(page) {
  const unlabelled = await page.evaluate(() => {
    const named = (one) => one.labels?.length || one.textContent.trim() || one.ariaLabel;
    return [...document.querySelectorAll("button, select, [role=img], [role=region], section")]
      .filter((one) => !named(one))
      .map((one) => one.outerHTML.slice(0, 80));
  });
  assert.deepEqual(unlabelled, []);
  await page.locator("#run select").focus();
  await page.keyboard.press("Home");
  const before = await page.locator("#run-shown").textContent();
  await page.keyboard.press("ArrowDown");
  assert.notEqual(await page.locator("#run-shown").textContent(), before, "chosen by keyboard");
  const contrasts = await page.evaluate(() => {
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
      const parts = style.getPropertyValue(name).trim().slice(1).match(/../g);
      const [r, g, b] = parts
        .map((part) => Number.parseInt(part, 16) / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    return ["--text", "--quiet", "--good", "--bad"].flatMap((name) =>
      ["--surface", "--raised"].map((under) => {
        const [one, other] = [light(name), light(under)];
        return [`${name} on ${under}`, Math.max(one, other) / Math.min(one, other)];
      }),
    );
  });
  for (const [what, contrast] of contrasts) assert.ok(contrast >= 4.5, `${what}: ${contrast}`);
}

async function checkDownload(page, document) {
  const waiting = page.waitForEvent("download");
  await page.getByRole("button", { name: "JSON" }).click();
  const saved = await (await waiting).path();
  assert.deepEqual(readJson(saved), document, "the downloaded data");
}

async function fitsInWidth(page, width) {
  const widest = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(widest <= width, `the page is ${widest} wide on ${width}`);
}

const keepPicture = (page, name) =>
  page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });

async function checkReport(browser, work) {
  const parts = ["tuning", "bench", "earlier", "later"].map((name) => join(work, name));
  const path = join(work, "report.html");
  const document = JSON.parse(runMoxie("report", ...parts, "--json", "-o", path));
  const { page, told } = await open(browser, path);
  await checkCharts(page, 4, 16).catch(async (error) => {
    await keepPicture(page, "failed");
    throw error;
  });
  await keepPicture(page, "desktop");
  await checkRuns(page, parts[3]);
  await checkComparison(page, parts[3]);
  await checkTuning(page, parts[0]);
  await checkDownload(page, document);
  await checkAccess(page);
  await page.emulateMedia({ colorScheme: "dark" });
  await checkAccess(page);
  await keepPicture(page, "dark");
  await page.emulateMedia({ media: "print" });
  await page.setViewportSize({ width: 794, height: 1123 });
  await keepPicture(page, "print");
  await page.pdf({ path: join(pictures, "print.pdf") });
  const phone = await open(browser, path, { viewport: { width: 390, height: 844 } });
  await fitsInWidth(phone.page, 390);
  await keepPicture(phone.page, "phone");
  assert.equal(await page.evaluate(() => window.wasHacked), undefined, "a name became markup");
  assert.ok((await page.locator("#runs").textContent()).includes("<img src=x onerror="));
  assert.deepEqual([...told, ...phone.told], [], "what the browser said");
}

// What moxie suite run leaves, and a benchmark alone: charts of what is there only.
async function checkOthers(browser, work) {
  const suite = await open(browser, join(work, "later/small.html"));
  assert.equal(await suite.page.locator("h1").textContent(), "Suite small");
  assert.ok((await suite.page.locator("#baseline").count()) === 1);
  assert.equal(await suite.page.locator("#tuning").count(), 0);
  const path = join(work, "bench.html");
  runMoxie("report", join(work, "bench"), "-o", path);
  const bench = await open(browser, path);
  await checkCard(bench.page, readJson(work, "bench/bench.json"));
  assert.equal(
    await bench.page.locator("#run-shown code").textContent(),
    readJson(work, "bench/bench.json").command,
  );
  for (const id of ["traffic", "load", "comparison", "scaling", "runs", "tuning"])
    assert.equal(await bench.page.locator(`#${id}`).count(), 0, `no ${id} of a benchmark alone`);
  await keepPicture(bench.page, "bench");
  assert.deepEqual([...suite.told, ...bench.told], []);
}

// On GPUs there are phases: of a run that was recorded on four H200s.
async function checkPhases(browser, work) {
  const recorded = readJson(here, "../../docs/results/2026-11-22-4-h200-check.json");
  const bench = recorded.bench[0].record;
  mkdirSync(join(work, "gpu"));
  writeFileSync(join(work, "gpu/bench.json"), JSON.stringify(bench));
  const path = join(work, "gpu.html");
  runMoxie("report", join(work, "gpu"), "-o", path);
  const { page, told } = await open(browser, path);
  await checkCard(page, bench);
  for (const name of operations)
    for (const [phase, time] of Object.entries(bench[name].phases_us))
      await assertNumber(page, `phase ${name} ${phase}`, time);
  assert.ok((await page.locator("#phases svg path").count()) >= 8, "phases: a bar for each");
  await keepPicture(page, "gpu");
  assert.deepEqual(told, []);
}

const work = mkdtempSync(join(tmpdir(), "moxie-report-"));
mkdirSync(pictures, { recursive: true });
let browser;
try {
  execFileSync(join(here, "records.sh"), [moxie, work], { stdio: "inherit" });
  browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox"] });
  await checkReport(browser, work);
  await checkOthers(browser, work);
  await checkPhases(browser, work);
  console.log(`every number is right; pictures are in ${pictures}`);
} finally {
  await browser?.close();
  rmSync(work, { recursive: true, force: true });
}
