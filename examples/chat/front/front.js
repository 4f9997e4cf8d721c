// front: the page, and a WebSocket for each page that is open.
//
// Usage: front.js PORT --logic HOST:PORT --presence URL --origin URL
//
// --logic and --presence are the services that it calls, at addresses of this machine; --origin is where browsers find it.

"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { parseArgs } = require("node:util");
const { WebSocketServer } = require("ws");
const { Presence } = require("./presence.js");
const { Room } = require("./room.js");
const { Visitor } = require("./visitor.js");

const text = { type: "string" };
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { logic: text, presence: text, origin: text },
});

const BEAT_MS = 5_000;
const FRAME_BYTES = 4096;

const visitors = new Set();
const room = new Room(options.logic);
const presence = new Presence(options.presence);

// ---------------------------------------------------------------------------------------------------------------------
// The page

const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };
const directory = path.join(__dirname, "page");
const files = new Map(
  fs.readdirSync(directory).map((name) => [
    name === "index.html" ? "/" : `/${name}`,
    { type: `${TYPES[path.extname(name)]}; charset=utf-8`, body: fs.readFileSync(path.join(directory, name)) },
  ]),
);

const server = http.createServer((request, response) => {
  const file = files.get(request.url.split("?")[0]);
  if (!file) return response.writeHead(404, { "content-type": "text/plain" }).end("there is no such page\n");
  if (!["GET", "HEAD"].includes(request.method)) return response.writeHead(405, { allow: "GET, HEAD" }).end();
  response.writeHead(200, {
    "content-type": file.type,
    "content-length": file.body.length,
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'self'",
    "x-content-type-options": "nosniff",
  });
  response.end(file.body);
});

// ---------------------------------------------------------------------------------------------------------------------
// Those who have it open

const sockets = new WebSocketServer({
  server,
  path: "/room",
  maxPayload: FRAME_BYTES,
  // A page of another site could otherwise talk in the name of whoever opens it.
  verifyClient: ({ origin }) => origin === options.origin,
});

sockets.on("connection", (socket) => {
  const visitor = new Visitor(socket, room, () => announce(presence.join(visitor.session, visitor.name)));
  visitors.add(visitor);
  socket.on("close", () => {
    visitors.delete(visitor);
    if (visitor.name) announce(presence.leave(visitor.session));
  });
});

/** Tells everybody who is here. Without the service `presence` nobody knows, and the talk goes on. */
async function announce(change) {
  const names = await change.catch((error) => {
    console.error(`who is here is not known: ${error.message}`);
    return null;
  });
  for (const visitor of visitors) if (visitor.name) visitor.send({ type: "present", names });
}

/** Sessions last as long as they are told again: so `presence` may forget them all, and knows them again a beat later. */
function beat() {
  for (const visitor of visitors) visitor.look();
  announce(presence.renew([...visitors].filter(({ name }) => name)));
}

const beats = setInterval(beat, BEAT_MS);

process.once("SIGTERM", () => {
  clearInterval(beats);
  server.close();
  for (const visitor of visitors) visitor.dismiss();
  room.close();
});

server.listen(Number(positionals[0]), "127.0.0.1");
