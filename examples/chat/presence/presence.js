// presence: who is in the room. Usage: presence.js PORT
//
// Procedures are plain POSTs with JSON in and out, `POST /join {"session": "…", "name": "Ada"}`. That callers speak JSON-RPC
// is their sidecar's affair: an item of theirs arrives here as such a POST.

"use strict";

const http = require("node:http");

// A session that is not told again within this long has ended without a word.
const SESSION_MS = 15_000;
const REQUEST_BYTES = 4096;

const sessions = new Map(); // session -> { name, until }

class Invalid extends Error {}

const procedures = {
  join({ session, name }) {
    if (!isText(session) || !isText(name)) throw new Invalid("join takes a session and a name");
    sessions.set(session, { name, until: Date.now() + SESSION_MS });
    return names();
  },
  leave({ session }) {
    if (!isText(session)) throw new Invalid("leave takes a session");
    sessions.delete(session);
    return names();
  },
  list: () => names(),
};

const isText = (value) => typeof value === "string" && value !== "";

/** The names of those who are here, each once, in the order in which they came. */
function names() {
  const now = Date.now();
  for (const [session, { until }] of sessions) if (until < now) sessions.delete(session);
  return [...new Set([...sessions.values()].map(({ name }) => name))];
}

async function read(request) {
  const pieces = [];
  let bytes = 0;
  for await (const piece of request) {
    if ((bytes += piece.length) > REQUEST_BYTES) throw new Invalid(`more than ${REQUEST_BYTES} bytes`);
    pieces.push(piece);
  }
  const parameters = JSON.parse(Buffer.concat(pieces).toString());
  if (parameters === null || typeof parameters !== "object") throw new Invalid("parameters are an object");
  return parameters;
}

/** The status and the JSON for a request. */
async function answer(request) {
  const procedure = request.url.slice(1);
  if (!Object.hasOwn(procedures, procedure)) return [404, { error: `no procedure ${procedure}` }];
  if (request.method !== "POST") return [405, { error: "procedures are called with POST" }];
  try {
    return [200, procedures[procedure](await read(request))];
  } catch (error) {
    if (error instanceof Invalid || error instanceof SyntaxError) return [400, { error: error.message }];
    throw error;
  }
}

const server = http.createServer(async (request, response) => {
  try {
    const [status, content] = await answer(request);
    const body = JSON.stringify(content);
    response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body);
  } catch (error) {
    console.error(`a request broke off: ${error.message}`);
    response.destroy();
  }
});
server.listen(Number(process.argv[2]), "127.0.0.1");
