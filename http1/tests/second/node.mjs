// Serves each case on a connection of its own; read.py explains.
import http from "node:http";
import net from "node:net";
import { createInterface } from "node:readline";

let messages, end;
const pairs = (raw) => Array.from({ length: raw.length / 2 }, (_, at) => [raw[2 * at], raw[2 * at + 1]]);

const server = http.createServer({ keepAliveTimeout: 0, maxHeaderSize: 1 << 20, joinDuplicateHeaders: false }, (request, response) => {
  const message = [false, `${request.method} ${request.url}`, pairs(request.rawHeaders), "", []];
  messages.push(message);
  request.setEncoding("hex");
  request.on("data", (data) => (message[3] += data));
  request.on("error", () => {});
  request.on("end", () => {
    message[0] = true;
    message[4] = pairs(request.rawTrailers);
    response.end();
  });
});
server.on("checkContinue", (request, response) => server.emit("request", request, response));
server.on("clientError", (error, socket) => {
  end = error.code === "HPE_INVALID_EOF_STATE" ? "incomplete" : "refused";
  socket.destroy();
});
server.on("dropRequest", () => {});
server.listen(0, "127.0.0.1");
await new Promise((resolve) => server.on("listening", resolve));

for await (const line of createInterface({ input: process.stdin })) {
  const [name, hex] = JSON.parse(line);
  messages = [];
  end = "clean";
  let answers = "";
  await new Promise((resolve) => {
    const socket = net.connect({ port: server.address().port, host: "127.0.0.1", allowHalfOpen: true });
    socket.on("data", (data) => (answers += data));
    socket.on("error", () => {});
    socket.on("close", resolve);
    socket.end(Buffer.from(hex, "hex"));
  });
  // It answers some of what it refuses without an event.
  if (end === "clean" && /^HTTP\/1\.1 4/m.test(answers)) end = "refused";
  console.log(JSON.stringify([name, messages, end]));
}
server.close();
