// A rush to watch: asks for a simulated on-sale, and shows how it goes. Only where `boxoffice up` plays it; elsewhere nothing.

const POLL_MS = 400;
const WORDS = {
  starting: "The events are put on sale.",
  selling: "Customers come.",
  settling: "The last customers have come. What is held and pending comes to its end.",
  auditing: "Redis, PostgreSQL and the bank's books are held against each other.",
  held: "Every invariant held: nothing was sold twice, nothing accepted was lost, nobody was charged twice.",
  broken: "An invariant was broken.",
  failed: "The rush could not be played.",
};
const ENDED = ["held", "broken", "failed"];

function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function field(label, input) {
  return make("label", {}, label, input);
}

function choice(name, options) {
  return make("select", { name }, ...options.map(([value, text]) => make("option", { value, textContent: text })));
}

function figure(dl, label) {
  const value = make("dd", { textContent: "0" });
  dl.append(make("div", {}, make("dt", { textContent: label }), value));
  return value;
}

const SVG = "http://www.w3.org/2000/svg";

function bar() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 4");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const parts = ["sold", "held"].map((name) => {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("class", name);
    rect.setAttribute("height", "4");
    svg.append(rect);
    return rect;
  });
  return {
    svg,
    show(tier) {
      let from = 0;
      for (const [rect, count] of [[parts[0], tier.sold], [parts[1], tier.held]]) {
        const width = tier.total ? (100 * Math.max(0, count)) / tier.total : 0;
        rect.setAttribute("x", String(from));
        rect.setAttribute("width", String(width));
        from += width;
      }
    },
  };
}

/** Puts the panel into `root`, an empty element. `call(method, path, body)` asks the API, and gives {status, body}. */
export async function mountRush(root, call) {
  const first = await call("GET", "/v1/ops/rushes").catch(() => ({ status: 0 }));
  if (first.status !== 200) {
    root.hidden = true;
    return;
  }
  document.head.append(make("link", { rel: "stylesheet", href: "/ops/assets/rush.css" }));
  root.hidden = false;

  const button = make("button", { type: "submit", textContent: "Start a rush" });
  const form = make(
    "form", {},
    field("Customers", make("input", { name: "customers", type: "number", min: 100, max: 6000, value: 1500, required: true })),
    field("Seconds", make("input", { name: "seconds", type: "number", min: 5, max: 60, value: 20, required: true })),
    field("Tickets", choice("tickets", [["few", "few: it sells out"], ["many", "enough standing room"]])),
    field("Troublesome cards", choice("trouble", [["0.05", "5 %"], ["0", "none"], ["0.2", "20 %"], ["0.5", "half"]])),
    field("Who dies in the middle", choice("dies", [["worker", "the worker"], ["api", "this API"], ["nobody", "nobody"]])),
    button,
  );
  const verdict = make("p", { className: "verdict", role: "status" });
  const deaths = make("p");
  const figures = make("dl");
  const shown = Object.fromEntries(
    [["elapsed", "Seconds"], ["arrivals", "Booked or tried"], ["accepted", "Accepted"], ["refused", "Refused"]].map(
      ([name, label]) => [name, figure(figures, label)],
    ),
  );
  const refusals = make("p");
  const rows = make("tbody");
  const head = make("tr", {}, ...["Tier", "Sold", "Held", "Left", ""].map((text) => make("th", { scope: "col", textContent: text })));
  const table = make("table", {}, make("caption", { textContent: "Tickets", hidden: true }), make("thead", {}, head), rows);
  const findings = make("ol", { ariaLabel: "Invariants" });
  const outcome = make("div", { className: "rush", hidden: true }, verdict, deaths, figures, table, refusals, findings);
  root.append(make("div", { className: "rush" }, make("h2", { textContent: "A rush to watch" }), make("p", {
    textContent: "A simulated on-sale on this demo, with events and a shop of its own. The supervisor starts again whoever dies; at the end everything is audited.",
  }), form, outcome));

  const bars = new Map();
  const show = (rush) => {
    outcome.hidden = false;
    verdict.dataset.status = rush.status;
    const said = rush.error ? `${WORDS[rush.status]} ${rush.error}` : WORDS[rush.status];
    if (verdict.textContent !== said) verdict.textContent = said;  // a screen reader says it once
    deaths.textContent = rush.killed
      .map((one) => `After ${one.at_s} s the ${one.name} was killed` + (one.back_s === null ? "; its successor starts." : `; ${one.back_s} s later its successor ran.`))
      .join(" ");
    shown.elapsed.textContent = rush.elapsed_s.toFixed(0);
    shown.arrivals.textContent = rush.arrivals.toLocaleString("en");
    shown.accepted.textContent = rush.accepted.toLocaleString("en");
    const kinds = Object.entries(rush.refused);
    shown.refused.textContent = kinds.reduce((sum, [, count]) => sum + count, 0).toLocaleString("en");
    refusals.textContent = kinds.length ? `Refused: ${kinds.map(([kind, count]) => `${count} ${kind}`).join(", ")}.` : "";
    for (const tier of rush.tiers) {
      if (!bars.has(tier.code)) {
        const cells = [make("td"), make("td"), make("td")];
        const drawn = bar();
        rows.append(make("tr", {}, make("th", { scope: "row", textContent: tier.code }), ...cells, make("td", { className: "rush-bar" }, drawn.svg)));
        bars.set(tier.code, { cells, drawn });
      }
      const { cells, drawn } = bars.get(tier.code);
      [tier.sold, tier.held, tier.available].forEach((count, at) => { cells[at].textContent = count.toLocaleString("en"); });
      drawn.show(tier);
    }
    findings.replaceChildren(
      ...rush.findings.map((one) => {
        const line = make("li", { textContent: `${one.held ? "✓" : "✗"} ${one.name} ${one.title}${one.evidence.length ? `: ${one.evidence[0]}` : ""}` });
        line.dataset.held = String(one.held);
        return line;
      }),
    );
  };

  let timer = 0;
  const poll = async () => {
    // While the API itself is dead nobody answers: the next look finds its successor.
    const answer = await call("GET", "/v1/ops/rushes").catch(() => ({ status: 0 }));
    const rush = answer.status === 200 ? answer.body.rush : null;
    if (rush) show(rush);
    const goesOn = answer.status === 200 ? rush && !ENDED.includes(rush.status) : answer.status === 0 || answer.status >= 500;
    button.disabled = Boolean(goesOn);
    clearTimeout(timer);
    if (goesOn) timer = setTimeout(poll, POLL_MS);
  };

  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const wish = Object.fromEntries(new FormData(form));
    const terms = { ...wish, customers: Number(wish.customers), seconds: Number(wish.seconds), trouble: Number(wish.trouble) };
    button.disabled = true;
    const answer = await call("POST", "/v1/ops/rushes", terms).catch(() => ({ status: 0, body: {} }));
    if (answer.status === 200 || answer.status === 202) {
      rows.replaceChildren();
      bars.clear();
      show(answer.body.rush);
      await poll();
    } else {
      outcome.hidden = false;
      verdict.dataset.status = "failed";
      verdict.textContent = answer.body?.detail ?? "The API did not answer.";
      button.disabled = false;
    }
  });
  if (first.body.rush) {
    show(first.body.rush);
    await poll();
  }
}
