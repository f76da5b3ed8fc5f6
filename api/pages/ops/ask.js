// Every change asks first, and says in numbers what it will do.

import { byId, make, say } from "./dom.js";
import { fine, why } from "./call.js";

/**
 * Ask, and do it. `lines`: what will happen, as texts or elements; `yes`: the verb; `bad`: there is no way back;
 * `fields`: elements to fill in; `check()`: a sentence that keeps it from being done, or nothing; `work()`: a call's answer;
 * `done`: the sentence said afterwards, or a function of the answer. Returns the answer, or null.
 */
export function ask({ title, lines, yes, bad = false, fields = [], check = () => "", work, done }) {
  const dialog = byId("ask"), form = dialog.querySelector("form"), button = byId("ask-yes"), says = byId("ask-says");
  byId("ask-title").textContent = title;
  byId("ask-body").replaceChildren(make("ul", {}, lines.map((line) => make("li", {}, line))), ...fields);
  says.textContent = "";
  button.textContent = yes;
  button.className = bad ? "bad" : "strong";
  button.hidden = !work;
  button.disabled = false;
  byId("ask-no").textContent = work ? "Leave it" : "Close";
  return new Promise((resolve) => {
    const end = (answer) => { form.onsubmit = dialog.oncancel = byId("ask-no").onclick = null; dialog.close(); resolve(answer); };
    byId("ask-no").onclick = () => end(null);
    dialog.oncancel = (event) => { event.preventDefault(); if (!button.disabled) end(null); };
    form.onsubmit = async (event) => {
      event.preventDefault();
      if (!work || button.disabled) return;
      const wrong = check();
      if (wrong) { says.textContent = wrong; return; }
      button.disabled = true;
      says.textContent = "";
      const answer = await work();
      button.disabled = false;
      if (!fine(answer)) { says.textContent = why(answer); return; }
      say(typeof done === "function" ? done(answer.body) : done);
      document.dispatchEvent(new Event("changed"));
      end(answer);
    };
    dialog.showModal();
    (byId("ask-body").querySelector("input, select") ?? byId("ask-no")).focus();
  });
}

export const field = (label, input) => make("label", {}, label, input);
