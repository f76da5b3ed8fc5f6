// What is left of an event, as it changes: a stream, and while none can be had a look every two seconds.

import * as net from "./net.js";
import * as clock from "./clock.js";

const SILENT_MS = 35_000; // a stream says something every 15 seconds
const LOOK_S = 2;

/**
 * Follow an event until the returned function is called. `on.left` is told what is left, as the stream tells it; `on.event` the
 * whole event, when it was read; `on.way` how it comes: "live", "looking" (every two seconds) or "away".
 */
export function follow(id, on) {
  const life = new AbortController();
  let awake = wakeful();
  const wake = () => {
    if (document.visibilityState === "hidden") awake.stop();
    else awake.go();
  };
  document.addEventListener("visibilitychange", wake);
  let tries = 0;
  let last = "";
  let streaming = false;

  async function stream() {
    while (!life.signal.aborted) {
      await awake.now();
      const began = clock.mark();
      const wait_s = await once().catch(() => null);
      streaming = false;
      if (life.signal.aborted || wait_s === Infinity) return;
      tries = clock.mark() - began > 10_000 ? 0 : tries + 1;
      await net.sleep(net.pause(tries - 1, wait_s));
    }
  }

  /** One stream, to its end. Returns after how many seconds to come back, if it was told. */
  async function once() {
    const cut = new AbortController();
    const end = () => cut.abort();
    for (const signal of [life.signal, awake.signal]) signal.addEventListener("abort", end, { once: true });
    let silent = setTimeout(end, SILENT_MS);
    try {
      const headers = net.reading({ Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) });
      const answer = await fetch(net.api(`/events/${id}/stream`), { headers, signal: cut.signal, cache: "no-store" });
      if (answer.status !== 200) return Number(answer.headers.get("Retry-After")) || null;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      streaming = true;
      on.way("live");
      for (let text = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) return null;
        clearTimeout(silent);
        silent = setTimeout(end, SILENT_MS);
        text += value;
        for (let stop; (stop = text.indexOf("\n\n")) >= 0; text = text.slice(stop + 2)) hear(text.slice(0, stop));
      }
    } finally {
      clearTimeout(silent);
    }
  }

  function hear(message) {
    const fields = Object.fromEntries(message.split("\n").filter((line) => /^[a-z]+: /.test(line)).map((line) => {
      const at = line.indexOf(": ");
      return [line.slice(0, at), line.slice(at + 2)];
    }));
    if (fields.id) last = fields.id;
    if (fields.data) on.left(JSON.parse(fields.data));
  }

  async function look() {
    for (let failed = 0; !life.signal.aborted; ) {
      await awake.now();
      let wait_s = streaming ? 20 : LOOK_S;
      try {
        const answer = await net.read(`/events/${id}`);
        if (life.signal.aborted) return;
        if (answer.status === 200) {
          failed = 0;
          on.event(answer.body, streaming);
          if (!streaming) on.way("looking");
        } else if (answer.status === 404) on.gone();
        else wait_s = net.pause((failed += 1), answer.retry_s);
      } catch {
        wait_s = net.pause((failed += 1));
        if (!streaming) on.way("away");
      }
      await Promise.race([net.sleep(wait_s), nudged()]);
    }
  }

  let nudge = () => {};
  const nudged = () => new Promise((resolve) => { nudge = resolve; });

  void stream();
  void look();
  return {
    /** Read the event now: something of it has changed. */
    look: () => nudge(),
    stop: () => {
      document.removeEventListener("visibilitychange", wake);
      life.abort();
      awake.go();
      nudge();
    },
  };
}

/** Who does not look needs no stream: `stop` ends what goes by `signal`, `go` lets it begin again. */
function wakeful() {
  let control = new AbortController();
  let go = () => {};
  let asleep = null;
  return {
    get signal() { return control.signal; },
    now: () => asleep ?? Promise.resolve(),
    stop() {
      asleep ??= new Promise((resolve) => { go = resolve; });
      control.abort();
    },
    go() {
      if (control.signal.aborted) control = new AbortController();
      asleep = null;
      go();
    },
  };
}
