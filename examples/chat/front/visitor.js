// One page in a browser, on its WebSocket. What they say to each other, as JSON:
//
//   page   {type: "join", name, after}       comes in, and has the messages up to number `after` already
//          {type: "post", id, text}          says something; the page makes the id, and may send the same again
//   front  {type: "message", number, id, author, text, action, written_by}
//          {type: "refused", id, reason, final}   final: sending it again would not help. Without an id: of the name
//          {type: "present", names}               null: nobody knows at the moment

"use strict";

const { randomUUID } = require("node:crypto");

const NAME = /^[\p{L}\p{N}][\p{L}\p{N} '.-]{0,23}$/u;
const SILENT_LOOKS = 3;
const WAITING = 100; // posts of one page that are not written yet

class Visitor {
  session = randomUUID();
  /** Empty until the visitor has joined. */
  name = "";
  #socket;
  #room;
  #gone = new AbortController();
  #turn = Promise.resolve();
  #waiting = 0;
  #silentLooks = 0;

  /**
   * @param {import("ws").WebSocket} socket
   * @param {import("./room.js").Room} room
   * @param {() => void} joined
   */
  constructor(socket, room, joined) {
    this.#socket = socket;
    this.#room = room;
    const heard = () => (this.#silentLooks = 0);
    socket.on("pong", heard);
    socket.on("error", (error) => console.log(`${this.name || "a visitor"}: ${error.message}`)); // a close follows
    socket.on("message", (data) => {
      heard();
      try {
        this.#receive(JSON.parse(data), joined);
      } catch (error) {
        socket.close(1008, error.message.slice(0, 100));
      }
    });
    socket.on("close", () => this.#gone.abort());
  }

  #receive(message, joined) {
    if (message?.type === "join" && !this.name && Number.isInteger(message.after) && message.after >= 0) {
      if (!NAME.test(message.name)) return this.send({ type: "refused", reason: "not a name that can be shown", final: true });
      this.name = message.name;
      joined();
      this.#room.follow(message.after, (entry) => this.send({ type: "message", ...entry }), this.#gone.signal);
    } else if (message?.type === "post" && this.name && typeof message.id === "string" && typeof message.text === "string") {
      this.#post(message);
    } else {
      throw new Error("not a message that is understood here");
    }
  }

  /** One after the other: what a page has said stands in the room in the order in which it was said. */
  #post({ id, text }) {
    if (this.#waiting === WAITING) return this.send({ type: "refused", id, reason: "too much at once", final: false });
    this.#waiting++;
    this.#turn = this.#turn.then(async () => {
      try {
        await this.#room.post({ id, author: this.name, text });
      } catch (error) {
        this.send({ type: "refused", id, reason: error.message, final: error.final });
      } finally {
        this.#waiting--;
      }
    });
  }

  /** Resolves when the message is on its way, or will never be: a slow reader is waited for and not read ahead of. */
  send(message) {
    return new Promise((resolve) => this.#socket.send(JSON.stringify(message), () => resolve()));
  }

  /** Asks for a sign of life; ends the connection when several looks in a row saw none. */
  look() {
    if (this.#silentLooks++ === SILENT_LOOKS) return this.#socket.terminate();
    this.#socket.ping();
  }

  /** Tells the page that this front leaves; the page comes back by itself. */
  dismiss() {
    this.#socket.close(1001, "the front restarts");
  }
}

module.exports = { Visitor };
