// JSON over fetch, with a timeout on every call and one kind of error.

const TIMEOUT_MS = 10_000;

/** A call that gave no usable answer. `status` is 0 if there was no answer at all. */
export class CallFailed extends Error {
  constructor(message, { status = 0, code = "unreachable" } = {}) {
    super(message);
    this.name = "CallFailed";
    this.status = status;
    this.code = code;
  }
}

/** Return the JSON at an address. Throws CallFailed, with the server's own words where it gave some. */
export async function getJson(path) {
  let response;
  try {
    response = await fetch(path, { headers: { accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (error) {
    throw new CallFailed(String(error.message ?? error));
  }
  const body = await readJson(response);
  if (response.ok && body !== null) return body;
  const told = body?.error ?? {};
  throw new CallFailed(told.message ?? `HTTP ${response.status}`, { status: response.status, code: told.code ?? "http" });
}

async function readJson(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError || error instanceof DOMException) return null;
    throw error;
  }
}
