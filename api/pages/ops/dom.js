// Elements, and how numbers are written.

export const byId = (id) => document.getElementById(id);

/** An element: `make("p", {class: "quiet"}, "text", another)`. Names that begin with `on` are listeners. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const count = (value) => (value === null || value === undefined ? "not known" : number.format(value));

/** `12 tickets`, `1 ticket`. */
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

/** Minor units as money. */
export function money(cents, currency) {
  const format = new Intl.NumberFormat("en", { style: "currency", currency, currencyDisplay: "code" });
  const digits = format.resolvedOptions().maximumFractionDigits;
  return format.format(cents / 10 ** digits);
}

export function seconds(value) {
  if (value === null || value === undefined) return "not known";
  if (value < 1) return `${Math.round(1000 * value)} ms`;
  if (value < 120) return `${number.format(value)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`;
}

export const clock = (moment) => new Date(moment).toLocaleTimeString([], { hour12: false });
export const day = (moment) => new Date(moment).toLocaleString([], { dateStyle: "medium", timeStyle: "short", hour12: false });

/** A table: heads are texts, or `{text, number: true}`. */
export function table(heads, rows, caption) {
  const right = heads.map((head) => (head.number ? "number" : null));
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {},
      make("thead", {}, make("tr", {}, heads.map((head, at) => make("th", { scope: "col", class: right[at] }, head.text ?? head)))),
      make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell, at) => make("td", { class: right[at] }, cell)))))));
}

let forget = 0;
/** A sentence for a moment, at the foot of the page. */
export function say(text, bad = false) {
  const said = byId("said");
  said.textContent = text;
  said.className = bad ? "bad" : "";
  clearTimeout(forget);
  forget = setTimeout(() => { said.textContent = ""; }, 8000);
}
