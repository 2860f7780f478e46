// Asks the server. Every error has a message for the person.

/** The JSON that a path answers. */
export async function get(path, query = {}) {
  const search = new URLSearchParams(query).toString();
  return (await answered(fetch(search ? `${path}?${search}` : path))).json();
}

/** The numbers of a binary answer, as an array of the given kind. */
export async function getNumbers(path, Kind) {
  return new Kind(await (await answered(fetch(path))).arrayBuffer());
}

/** The answer to a question in JSON. */
export async function post(path, question) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) };
  return (await answered(fetch(path, options))).json();
}

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Error("The server does not answer: has mqsa-jax explore ended?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const detail = typeof body.detail === "string" ? body.detail : `status ${response.status}`;
  throw new Error(`The server refuses: ${detail}`);
}

/**
 * Runs one request at a time: of those that come while one is on its way, only the last is sent.
 * A moved slider so shows every answer that the server can give, and ends at the newest one.
 */
export function latest(work) {
  let running = false;
  let next = null;
  return async function ask(...args) {
    next = args;
    if (running) return;
    running = true;
    try {
      while (next) {
        const now = next;
        next = null;
        await work(...now);
      }
    } finally {
      running = false;
    }
  };
}
