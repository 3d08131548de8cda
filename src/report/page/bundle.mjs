// SPDX-License-Identifier: Apache-2.0
// Bundles the page into one HTML file: its style, and its code with what it uses of ECharts.
//
//   node bundle.mjs NPM_FOLDER OUTPUT.html       NPM_FOLDER has node_modules
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [packages, output] = process.argv.slice(2).map((path) => resolve(path));
const esbuild = createRequire(join(packages, "package.json"))("esbuild");

// One file of `type`, with its imports; a warning fails the build.
function bundle(name) {
  const result = esbuild.buildSync({
    entryPoints: [join(here, name)],
    nodePaths: [join(packages, "node_modules")],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2020",
    define: { "process.env.NODE_ENV": '"production"' },
    legalComments: "inline",
  });
  if (result.warnings.length > 0) process.exit(1);
  return result.outputFiles[0].text;
}

let page = readFileSync(join(here, "index.html"), "utf8");
for (const [mark, name] of [
  ["/* STYLE */", "style.css"],
  ["/* CODE */", "main.js"],
])
  page = page.replace(mark, () => bundle(name));
if (page.split("REPORT_DATA").length !== 2)
  throw new Error("index.html: REPORT_DATA must stand in the page once");
writeFileSync(output, page);
