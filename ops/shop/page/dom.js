// Elements, made and changed without a library. Text is set as text: nothing that comes from outside becomes markup.

/** An element: `h("p", {class: "quiet", onclick: f, hidden: true}, "text", child)`. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set an element's text, if it is another: who listens with a screen reader hears it once. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  return element;
}

export function show(element, shown) {
  element.hidden = !shown;
  return element;
}

/** Move the focus to a heading that is no control, after a step: keyboard and screen reader go on from there. */
export function focusOn(element) {
  element.setAttribute("tabindex", "-1");
  element.focus({ preventScroll: false });
}

export const byId = (id) => document.getElementById(id);

let asked = 0;

/** Ask before something that cannot be undone. Resolves to true or false; Escape is false. */
export function confirmed(question, detail, yes) {
  const title = `ask-${(asked += 1)}`;
  return new Promise((resolve) => {
    const dialog = h(
      "dialog", { "aria-labelledby": title },
      h("h2", { id: title }, question),
      h("p", {}, detail),
      h("div", { class: "row" },
        h("button", { class: "main", type: "button", onclick: () => dialog.close("yes") }, yes),
        h("button", { type: "button", onclick: () => dialog.close("") }, "No, leave it")),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
