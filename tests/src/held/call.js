// Asks the app of held.rs who it is, through a stream of HTTP/2 that carries bytes, and prints what call.py prints of a tunnel:
//
//     call.js connect|extended HOST:PORT [FIELD]      CONNECT to `store`, WebSocket's at `payments`
const [, , door, address, ...fields] = process.argv;
const session = require("http2").connect("http://" + address);
const more = Object.fromEntries(fields.map((field) => field.split(": ")));
const asked = {
  connect: { ":method": "CONNECT", ":authority": "store:6379" },
  extended: { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":authority": "payments", ":path": "/who" },
}[door];

session.once("remoteSettings", () => {
  const stream = session.request({ ...asked, ...more }, { endStream: false });
  let told = "";
  let body = "";
  stream.setEncoding("utf8");
  stream.on("response", (headers) => {
    told = `${headers[":status"]} ${headers["x-pillion-error"] ?? ""}`;
    if (door === "connect" && headers[":status"] === 200) stream.write("who?\n");
  });
  stream.on("data", (data) => { body += data; });
  stream.on("error", () => { body = "reset"; });
  stream.on("end", () => stream.end());
  stream.on("close", () => {
    console.log(`${body}\n${told}`);
    session.close();
  });
});
