// The HTTP API as the page uses it: requests that fail are Problems, a run's stream goes on over broken connections.

const TOKEN = "runlane.token";
/** Milliseconds before a broken stream is asked for again: first and longest. */
const RECONNECT_FIRST = 250;
const RECONNECT_LONGEST = 5000;

/** What the server said is wrong; `detail` and `hint` are for people. */
export class Problem extends Error {
  constructor({ status = 0, detail = "the gateway cannot be reached", hint = "", code = "" }) {
    super(detail);
    Object.assign(this, { status, detail, hint, code });
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value.trim()),
};

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({});
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({ detail: `the server answered ${response.status}` }));
  throw new Problem({ ...said, status: response.status });
}

export async function agents() {
  return (await (await ask("/agents")).json()).agents;
}

/** Submitting with the same key again is submitting the same run. */
export async function submit(request, key) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  const response = await ask("/runs", { method: "POST", headers, body: JSON.stringify(request) });
  return response.json();
}

export async function cancel(runId) {
  return (await ask(`/runs/${encodeURIComponent(runId)}/cancel`, { method: "POST" })).json();
}

/**
 * The events of a run behind `after`, each once and in order, until run.finished; a connection that breaks is made
 * again. `onState` gets "connected", or "reconnecting". Throws a Problem that another try would not mend.
 */
export async function* follow(runId, after, signal, onState) {
  let pause = RECONNECT_FIRST;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": after };
      const response = await ask(`/runs/${encodeURIComponent(runId)}/stream`, { headers, signal });
      if (response.status === 204) return;
      onState("connected");
      for await (const event of events(response.body)) {
        pause = RECONNECT_FIRST;
        if (!event.id) continue; // stream.cut: why the gateway ends the stream early; it is asked for again
        after = event.id;
        yield event;
        if (event.kind === "run.finished") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      const passes = error instanceof Problem ? error.status === 0 || error.status === 429 || error.status >= 500 : true;
      if (!passes) throw error;
    }
    onState("reconnecting");
    await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random() / 2)));
    pause = Math.min(pause * 2, RECONNECT_LONGEST);
  }
}

/** Server-Sent Events in a body of bytes. One that is cut off in the middle is dropped: it comes again. */
async function* events(body) {
  let rest = "";
  for await (const text of read(body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => [line.split(":", 1)[0], line.replace(/^[^:]*: ?/, "")]));
      if (fields.has("data")) {
        yield { id: fields.get("id") ?? "", kind: fields.get("event"), chunk: JSON.parse(fields.get("data")) };
      }
    }
  }
}

async function* read(stream) {
  const reader = stream.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
