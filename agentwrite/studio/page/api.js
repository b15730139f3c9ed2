// The studio's HTTP API. The key is sent in a header, never in a URL.

const KEY = "agentwrite-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const key = () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";

export const hasKey = () => key() !== "";

export function keepKey(value, remember) {
  localStorage.removeItem(KEY);
  sessionStorage.removeItem(KEY);
  (remember ? localStorage : sessionStorage).setItem(KEY, value);
}

async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  const response = await fetch(`studio/${path}`, { ...options, headers, cache: "no-store" });
  if (response.ok) return response;
  let message = `HTTP ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch { /* an answer that is not the server's own */ }
  throw new Refused(response.status, message);
}

export const get = async (path) => (await send(path)).json();

export async function post(path, body = {}, keepalive = false) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify(body), keepalive };
  return (await send(path, options)).json();
}

export const bookPath = (name) => `books/${encodeURIComponent(name)}`;

// Saves a file that the server makes.
export async function download(name, format) {
  const response = await send(`${bookPath(name)}/text.${format}`);
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = `${name}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// Calls `on(event, data)` for each server-sent event after the one with the id `last`, until the
// connection ends. Returns the id of the last event.
export async function listen(name, last, signal, on) {
  const headers = last ? { "Last-Event-ID": last } : {};
  const response = await send(`${bookPath(name)}/events`, { headers, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let done, value;
    try {
      ({ done, value } = await reader.read());
    } catch (error) {
      if (signal.aborted) throw error;
      return last; // the connection is lost
    }
    if (done) return last;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const fields = Object.fromEntries(
        event.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]),
      );
      if (fields.data) on(fields.event, JSON.parse(fields.data));
      last = fields.id ?? last;
    }
  }
}
