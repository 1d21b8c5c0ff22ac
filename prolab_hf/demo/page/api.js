// Talks to the server, and says on the page what went wrong.
import { $ } from "./dom.js";

export class ServerLost extends Error {}

async function request(path, body, headers) {
  let response;
  try {
    response = await fetch(`api/${path}`, { method: "POST", body, headers });
  } catch {
    throw new ServerLost();
  }
  if (response.ok) return response;
  let text = `The server answered with status ${response.status}.`;
  try { text = (await response.json()).error || text; } catch { /* a server in front of ours */ }
  throw Object.assign(new Error(text), { status: response.status });
}

export async function call(path, fields = {}) {
  const response = await request(path, JSON.stringify(fields), { "Content-Type": "application/json" });
  try { return await response.json(); } catch { throw new ServerLost(); }
}

export async function upload(file) {
  const kind = /^image\//.test(file.type) ? file.type : "application/octet-stream";
  const headers = { "Content-Type": kind, "X-File-Name": encodeURIComponent(file.name || "") };
  return (await request("upload", file, headers)).json();
}

export async function download(path, fields) {
  const response = await request(path, JSON.stringify(fields), { "Content-Type": "application/json" });
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
  save(await response.blob(), name ? name[1] : "download");
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const latest = {};  // number of the newest question of each kind: answers to older ones are dropped

export async function ask(kind, question) {  // undefined if a newer question of this kind came meanwhile
  const number = latest[kind] = (latest[kind] || 0) + 1;
  try {
    const answer = await question();
    return number === latest[kind] ? answer : undefined;
  } catch (error) {
    if (number !== latest[kind]) return undefined;
    throw error;
  }
}

// While a slider moves: one question at a time, and of those that wait only the newest.
export function steadily(work) {
  let running = null, waiting = null;
  async function run() {
    try {
      while (waiting) {
        const values = waiting;
        waiting = null;
        await work(...values);
      }
    } finally { running = null; }
  }
  const next = (...values) => {
    waiting = values;
    running ||= run();
    return running;
  };
  next.settle = () => { waiting = null; return running; };  // until nothing is asked any more
  return next;
}

let busyCount = 0;

export async function busy(work) {
  busyCount++;
  $("busy").hidden = false;
  try { return await work(); } finally { if (!--busyCount) $("busy").hidden = true; }
}

export function complain(text, label, action) {
  const [words, close] = $("banner").children;
  words.textContent = text;
  close.textContent = label || "Close";
  close.onclick = () => { $("banner").hidden = true; if (action) action(); };
  $("banner").hidden = false;
}

let onLost = () => {}, onGone = () => {};
export function recover(lost, gone) { onLost = lost; onGone = gone; }

export async function guarded(work) {
  try { await work(); } catch (error) {
    if (error instanceof ServerLost) {
      complain("The server does not answer. Is prolab demo still running? Start it again if not, then try again.",
               "Try again", () => guarded(async () => { await onLost(); await work(); }));
    } else if (error.status === 410) {
      complain("The server does not have this image any more.", "Start again", () => guarded(onGone));
    } else {
      complain(error.message);
      if (!error.status) console.error(error);
    }
  }
}
