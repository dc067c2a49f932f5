// Submit a run, watch its chunks, leave and come back, cancel. The run that is shown stands in the URL: #run=<id>.

import { Problem, agents, cancel, follow, submit, token } from "./api.js";

const find = (id) => document.getElementById(id);
let following = new AbortController();

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

/** Shows one run from its chunks; the same chunks always make the same picture. */
class RunView {
  constructor() {
    this.chunks = find("chunks");
    this.chunks.replaceChildren();
    this.tools = new Map();
    this.text = null;
    this.state("…");
    find("sequence").textContent = 0;
  }

  show(kind, chunk) {
    const { payload } = chunk;
    find("sequence").textContent = chunk.sequence;
    if (kind === "llm.delta") return this.say(payload.text ?? "");
    this.text = null;
    if (kind === "run.queued") this.state("queued");
    else if (kind === "run.started") this.begin(chunk.attempt);
    else if (kind === "run.interrupted") {
      this.state("interrupted");
      this.note(`interrupted: ${payload.reason ?? "its worker is gone"}; it starts again elsewhere`);
    } else if (kind === "tool.started") this.tool(payload.call_id, payload.tool_id, payload.params);
    else if (kind === "tool.finished") this.toolEnded(payload);
    else if (kind === "stream.gap") this.replace(payload);
    else if (kind === "run.finished") this.finish(payload, chunk.result);
    else if (kind === "artifact") this.note(`artifact ${payload.name}`);
    else if (kind === "validation.retry") this.note(`the output did not validate: ${payload.error}`);
  }

  state(name) {
    find("state").textContent = name.replace("_", " ");
    find("state").dataset.state = name;
    find("cancel").hidden = ["queued", "running", "interrupted"].indexOf(name) < 0;
  }

  /** An attempt starts anew: what an earlier one said does not count. */
  begin(attempt) {
    this.state("running");
    if (attempt < 2) return;
    this.chunks.querySelectorAll(".text, .tool").forEach((element) => element.remove());
    this.tools.clear();
    this.note(`attempt ${attempt}`);
  }

  say(text) {
    this.text ??= this.chunks.appendChild(make("div", "text", ""));
    this.text.append(text);
  }

  note(text, className = "") {
    this.chunks.append(make("p", `note ${className}`, text));
  }

  tool(callId, toolId, params) {
    const details = make("details", "tool", "");
    details.append(make("summary", "", `${toolId} …`), make("pre", "", JSON.stringify(params ?? {}, null, 2)));
    this.chunks.append(details);
    this.tools.set(callId, details);
  }

  toolEnded({ call_id: callId, tool_id: toolId, error, result }) {
    if (!this.tools.has(callId)) this.tool(callId, toolId);
    const details = this.tools.get(callId);
    details.querySelector("summary").textContent = `${toolId} ${error === undefined ? "✓" : "failed"}`;
    details.append(make("pre", "", typeof result === "string" ? result : JSON.stringify(error ?? result, null, 2)));
  }

  /** What is no longer kept is replaced by how the run stood then. */
  replace({ from, to, snapshot }) {
    this.chunks.replaceChildren();
    this.tools.clear();
    this.note(`chunks ${from} to ${to} are no longer kept${snapshot?.truncated ? "; the text's beginning neither" : ""}`);
    if (!snapshot) return;
    this.state(snapshot.status);
    if (snapshot.text) this.say(snapshot.text);
    snapshot.open_tool_calls.forEach((call) => this.tool(call.call_id, call.tool_id));
  }

  finish({ stop_reason: reason }, result) {
    this.state(reason);
    const error = result?.error_details;
    if (error) this.note(`${error.message} (${error.code})${error.hint ? ` – ${error.hint}` : ""}`, "bad");
    const said = [...this.chunks.querySelectorAll(".text")].at(-1)?.textContent;
    const output = result?.final_output;
    if (output == null || output === said) return;
    this.say(typeof output === "string" ? output : JSON.stringify(output, null, 2));
  }
}

function complain(error) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) find("access").open = true;
  const lines = [error.detail, error.hint].filter(Boolean);
  find("problem").replaceChildren(...lines.map((line, n) => make("p", n ? "hint" : "", line)));
  find("problem").hidden = false;
}

/** Follow the run in the URL, if there is one. */
async function showRun() {
  following.abort();
  following = new AbortController();
  const { signal } = following;
  const runId = new URLSearchParams(location.hash.slice(1)).get("run");
  find("run").hidden = !runId;
  find("problem").hidden = true;
  if (!runId) return;
  find("run-id").textContent = runId;
  find("connection").textContent = "";
  const view = new RunView();
  const connection = (state) => (find("connection").textContent = state === "connected" ? "" : "reconnecting …");
  try {
    for await (const { kind, chunk } of follow(runId, "0", signal, connection)) view.show(kind, chunk);
    if (!signal.aborted) connection("connected");
  } catch (error) {
    find("run").hidden = true;
    complain(error);
  }
}

async function offerAgents() {
  try {
    const known = await agents();
    find("agents").replaceChildren(...known.map(({ id }) => new Option(id, id)));
    find("agent").value ||= known[0]?.id ?? "";
  } catch (error) {
    if (error.status === 401) find("access").open = true; // else a name can be typed all the same
  }
}

let key = null;

find("submit").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  key ??= `page-${Date.now()}-${Math.random().toString(36).slice(2)}`;
  const request = {
    agent_id: find("agent").value.trim(),
    session_id: find("session").value,
    input_text: find("input").value,
  };
  try {
    const run = await submit(request, key);
    key = null;
    find("input").value = "";
    location.hash = `run=${encodeURIComponent(run.run_id)}`;
  } catch (error) {
    // Whether it arrived is known only if the server said so: the same key again cannot make a second run.
    if (error.status) key = null;
    complain(error);
  } finally {
    button.disabled = false;
  }
});

find("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("submit").requestSubmit();
});

find("cancel").addEventListener("click", async () => {
  try {
    await cancel(find("run-id").textContent);
  } catch (error) {
    complain(error);
  }
});

find("token").addEventListener("change", () => {
  token.set(find("token").value);
  offerAgents();
  showRun();
});

find("token").value = token.get();
find("session").value = `page-${Math.random().toString(36).slice(2, 8)}`;
window.addEventListener("hashchange", showRun);
offerAgents();
showRun();
