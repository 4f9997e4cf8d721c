// The page's side of the room. It keeps what it has said until it sees it standing there, whatever happens to the connection.

const $ = (id) => document.getElementById(id);
const RETRY_MS = [250, 500, 1000, 2000, 5000];

let name = "";
let socket = null;
let failures = 0; // connections in a row that came to nothing
let last = 0; // number of the newest message seen
const waiting = new Map(); // id of what was said and is not in the room yet -> { text, item }

// ---------------------------------------------------------------------------------------------------------------------
// The connection

function connect() {
  const own = (socket = new WebSocket(new URL("room", location.href.replace(/^http/, "ws"))));
  own.addEventListener("open", () => {
    status(`You are ${name}.`);
    send({ type: "join", name, after: last });
    // Sent before, perhaps: under the same id, which makes it the same message.
    for (const [id, { text }] of waiting) send({ type: "post", id, text });
  });
  own.addEventListener("message", ({ data }) => {
    failures = 0;
    const { type, ...said } = JSON.parse(data);
    handlers[type](said);
  });
  own.addEventListener("close", () => {
    if (own !== socket) return; // given up
    status("The connection is lost; trying again …", true);
    setTimeout(connect, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
  });
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

const handlers = {
  message(message) {
    last = message.number;
    forget(message.id);
    show(entry(message));
  },

  refused({ id, reason, final }) {
    if (!id) return refuseName(reason);
    const said = waiting.get(id);
    if (!said) return; // it stands in the room after all
    fail(said.item, reason, final ? null : () => say(said.text, id));
    // What may still come to stand in the room stays known, and keeps its id.
    if (final) waiting.delete(id);
  },

  present({ names }) {
    const shown = names ?? ["not known at the moment"];
    $("present").replaceChildren(...shown.map((text) => element("li", "", text)));
  },
};

// ---------------------------------------------------------------------------------------------------------------------
// What the user does

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  name = $("name").value.trim();
  if (!name) return;
  $("join").hidden = true;
  $("room").hidden = false;
  $("text").focus();
  connect();
});

$("post").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) say(text, crypto.randomUUID());
  $("text").value = "";
});

function say(text, id) {
  forget(id);
  const item = entry({ id, author: name, text });
  item.classList.add("waiting");
  waiting.set(id, { text, item });
  show(item);
  send({ type: "post", id, text });
}

function refuseName(reason) {
  socket.close();
  socket = null;
  $("join").hidden = false;
  $("room").hidden = true;
  status(`This cannot be your name: ${reason}.`, true);
}

// ---------------------------------------------------------------------------------------------------------------------
// What the user sees

function status(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function entry({ id, author, text, action = false, written_by = "" }) {
  const item = element("li");
  item.dataset.id = id;
  item.classList.toggle("own", author === name);
  item.classList.toggle("action", action);
  const by = element("span", "by", written_by);
  by.title = "the instance of logic that wrote this down";
  item.append(element("span", "author", author), element("span", "text", text), by);
  return item;
}

function fail(item, reason, again) {
  item.classList.replace("waiting", "failed");
  item.querySelector(".reason")?.remove(); // that of an earlier attempt
  const line = element("p", "reason", `Not sent: ${reason}.`);
  line.role = "alert";
  if (again) {
    const button = element("button", "", "Send again");
    button.addEventListener("click", again);
    line.append(button);
  }
  item.append(line);
}

function show(item) {
  const list = $("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  // Who reads further up is left there; one's own words are always followed.
  if (atEnd || item.classList.contains("own")) list.scrollTop = list.scrollHeight;
}

function forget(id) {
  waiting.get(id)?.item.remove();
  waiting.delete(id);
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
