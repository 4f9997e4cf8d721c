// The room, as the service `logic` keeps it, called by gRPC at an address of this machine.

"use strict";

const path = require("node:path");
const { setTimeout: pause } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const PROTO = path.join(__dirname, "..", "chat.proto");
const POST_MS = 5_000; // for one attempt
const PATIENCE_MS = 20_000; // for all of them
const PAUSE_MS = 100;

class Room {
  #client;
  #closed = false;

  constructor(address) {
    const { chat } = grpc.loadPackageDefinition(loader.loadSync(PROTO, { keepCase: true, defaults: true }));
    this.#client = new chat.Logic(address, grpc.credentials.createInsecure());
  }

  /**
   * Says something in the room, and again under the same id until it is known to stand there, once: after any failure but
   * the service's own no, nobody knows whether the call ran. Pillion repeats such a call for nobody; who has an id may.
   * @param {{id: string, author: string, text: string}} draft
   * @throws {Error & {final: boolean}} with the reason; `final` when the same draft would be refused again
   */
  async post(draft) {
    const giveUp = Date.now() + PATIENCE_MS;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#postOnce(draft);
      } catch (error) {
        const final = error.code === grpc.status.INVALID_ARGUMENT;
        if (final || this.#closed || Date.now() > giveUp) throw Object.assign(new Error(error.details), { final });
        console.log(`post ${draft.id} is repeated after attempt ${attempt}: ${error.message}`);
        await pause(PAUSE_MS * attempt);
      }
    }
  }

  #postOnce(draft) {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + POST_MS };
      this.#client.Post(draft, options, (error, message) => (error ? reject(error) : resolve(message)));
    });
  }

  /**
   * Delivers the messages after `number` and those to come, each once and in order, until `signal` is aborted. A stream that
   * breaks is taken up where it broke, at whichever instance answers. The next message waits until this one is delivered.
   * @param {number} number
   * @param {(message: object) => Promise<void>} deliver
   * @param {AbortSignal} signal
   */
  async follow(number, deliver, signal) {
    while (!signal.aborted) {
      const stream = this.#client.Messages({ number });
      const leave = () => stream.cancel();
      signal.addEventListener("abort", leave);
      try {
        for await (const message of stream) {
          await deliver(message);
          number = message.number;
        }
      } catch (error) {
        if (!signal.aborted) console.log(`messages after ${number} are asked for again: ${error.message}`);
      }
      signal.removeEventListener("abort", leave);
      await pause(PAUSE_MS);
    }
  }

  /** Calls that are in flight may finish; none is begun from here on. */
  close() {
    this.#closed = true;
    this.#client.close();
  }
}

module.exports = { Room };
