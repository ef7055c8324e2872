// The one place that talks to the server, and to nobody else.

let token = "";

/** The token comes behind the # of the printed link, which is not sent; it is kept for this tab. */
export function findToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  try {
    if (given) sessionStorage.setItem("cicm-token", given);
    token = given || sessionStorage.getItem("cicm-token") || "";
  } catch {
    token = given || "";
  }
  if (given) history.replaceState(null, "", location.pathname);
}

export function setToken(given) {
  token = given;
  try { sessionStorage.setItem("cicm-token", given); } catch { /* kept for this page only */ }
}

export class Problem extends Error {
  constructor(message, status = 0) { super(message); this.status = status; }
}

const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

export async function info() {
  const answer = await reach("/api/v1/info", { headers: headers() });
  if (!answer.ok) throw await problem(answer.status, answer.headers.get("content-type"), await answer.text());
  return answer.json();
}

/** How many others are in the line; null if it can't be told. */
export async function waiting() {
  try {
    return (await (await fetch("/api/v1/health")).json()).waiting;
  } catch {
    return null;
  }
}

/** Sends a form; resolves to {blob, header(name)}. `signal` cancels, `sent(share)` hears of the upload. */
export function send(path, parts, { signal, sent } = {}) {
  const form = new FormData(); // an array is a part for each of its files, with their names
  for (const [name, value] of Object.entries(parts)) {
    if (value instanceof Blob) form.append(name, value, name);
    else if (Array.isArray(value)) value.forEach((file) => form.append(name, file, file.name));
    else if (value !== undefined) form.append(name, String(value));
  }
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest(); // fetch can't tell how much has been sent
    call.open("POST", path);
    call.responseType = "blob";
    for (const [name, value] of Object.entries(headers())) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) => event.lengthComputable && sent?.(event.loaded / event.total);
    call.onload = async () => {
      if (call.status === 200) {
        resolve({ blob: call.response, header: (name) => call.getResponseHeader(name) });
      } else {
        reject(await problem(call.status, call.getResponseHeader("content-type"), await call.response.text()));
      }
    };
    call.onerror = () => reject(unreachable());
    call.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", () => call.abort());
    if (signal?.aborted) reject(new DOMException("cancelled", "AbortError"));
    else call.send(form);
  });
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw unreachable();
  }
}

const unreachable = () => new Problem("The server does not answer. Is it still running? Nothing is lost: try again when it is.");

async function problem(status, kind, text) {
  if (kind?.startsWith("application/json")) {
    try {
      return new Problem(JSON.parse(text).error, status);
    } catch { /* told below */ }
  }
  return new Problem(`The server answered with ${status}. Try again in a moment.`, status);
}
