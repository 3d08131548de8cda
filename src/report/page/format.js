// SPDX-License-Identifier: Apache-2.0
// Numbers for people. Each format has the exact number beside it: <data value>.
import { element } from "./dom.js";

/** µs as a time. */
export function timeText(us) {
  if (us < 1e3) return `${us.toFixed(1)} µs`;
  if (us < 1e6) return `${(us / 1e3).toFixed(2)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

export const rateText = (gbps) => `${gbps.toFixed(2)} GB/s`;
export const shareText = (share) => `${Math.round(100 * share)}%`;
export const speedText = (speed) => `${speed.toFixed(2)}×`;
/** What two digits of a speed say. */
export const speedKind = (speed) => (speed >= 1.005 ? "faster" : speed < 0.995 ? "slower" : "same");

export const countText = (count) => count.toLocaleString("en-US");

export function bytesText(bytes) {
  if (bytes < 1e3) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** 2026-11-22_08-30-00 as people write it. */
export function stampText(stamp) {
  const [day, time] = stamp.split("_");
  return time === undefined ? day : `${day} ${time.replaceAll("-", ":")}`;
}

/**
 * A number with its exact value; a dash where there is none.
 *
 * @param {unknown} value
 * @param {(value: number) => string} text
 * @param {string} [name]  what it is, for programs
 */
export function figure(value, text, name = "") {
  if (typeof value !== "number") return element("span", { class: "none" }, "–");
  return element("data", { value, "data-name": name, title: String(value) }, text(value));
}
