// SPDX-License-Identifier: Apache-2.0
// Makes elements. Texts become text nodes and never markup, whatever is in them.

/**
 * @param {string} tag
 * @param {Record<string, string | number | boolean>} [attributes]  false: not set
 * @param {...(Node | string | null)} children  null: none
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== false) made.setAttribute(name, value === true ? "" : String(value));
  made.append(...children.filter((child) => child !== null));
  return made;
}

/**
 * A table that scrolls by itself where it is too wide, by keyboard too.
 *
 * @param {string} caption
 * @param {string[]} heads  none: no line of heads
 * @param {(Node | string)[][]} rows  the first cell of each is its head, the last one of a
 *                                     short row spans what is left
 */
export function table(caption, heads, rows) {
  const isNumber = heads.map((_, i) =>
    rows.some((row) => row[i] instanceof Element && row[i].tagName === "DATA"),
  );
  const head = heads.map((text, i) =>
    element("th", { scope: "col", class: isNumber[i] ? "number" : false }, text),
  );
  const body = rows.map(([first, ...rest]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, first),
      ...rest.map((cell, i) =>
        element(
          "td",
          {
            class: isNumber[i + 1] && cell instanceof Element ? "number" : false,
            colspan: i + 1 === rest.length && heads.length - i > 2 ? heads.length - i - 1 : false,
          },
          cell,
        ),
      ),
    ),
  );
  return element(
    "div",
    { class: "scrolls", tabindex: 0, role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", {}, caption),
      heads.length > 0 ? element("thead", {}, element("tr", {}, ...head)) : null,
      element("tbody", {}, ...body),
    ),
  );
}

/** A section with a heading; null when it has no content. */
export function section(id, title, ...children) {
  const content = children.flat().filter((child) => child !== null);
  if (content.length === 0) return null;
  return element(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, title),
    ...content,
  );
}

/**
 * A labelled choice.
 *
 * @param {string} label
 * @param {string[]} options
 * @param {number} chosen
 * @param {(index: number) => void} changed
 */
export function choice(label, options, chosen, changed) {
  const select = /** @type {HTMLSelectElement} */ (
    element("select", {}, ...options.map((text, i) => element("option", { value: i }, text)))
  );
  select.selectedIndex = chosen;
  select.addEventListener("change", () => changed(select.selectedIndex));
  return element("label", { class: "choice" }, element("span", {}, label), select);
}

/** A button. */
export function button(text, pressed) {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", pressed);
  return made;
}
