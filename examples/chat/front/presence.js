// Who is in the room, as the service `presence` keeps it, called by JSON-RPC at an address of this machine.

"use strict";

const PATIENCE_MS = 5_000;

class Presence {
  #url;
  #turn = Promise.resolve();

  /** @param {string} url */
  constructor(url) {
    this.#url = url;
  }

  /** @returns {Promise<string[]>} the names, once the session is in */
  join(session, name) {
    return this.#change([["join", { session, name }]]);
  }

  /** @returns {Promise<string[]>} the names, once the session is out */
  leave(session) {
    return this.#change([["leave", { session }]]);
  }

  /** Says of all sessions that they last, in one batch. */
  renew(sessions) {
    return this.#change(sessions.map(({ session, name }) => ["join", { session, name }]));
  }

  /** One change after the other, or an older list of names could come last. */
  #change(calls) {
    const change = async () => {
      if (calls.length) await this.#call(calls);
      return (await this.#call([["list", {}]]))[0];
    };
    return (this.#turn = this.#turn.then(change, change));
  }

  async #call(calls) {
    const batch = calls.map(([method, params], id) => ({ jsonrpc: "2.0", method, params, id }));
    const response = await fetch(this.#url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(batch),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const answers = await response.json();
    if (!Array.isArray(answers)) throw new Error(answers.error?.message ?? `presence answered ${response.status}`);
    return answers.map(({ error, result }) => {
      if (error) throw new Error(`presence: ${error.message} ${JSON.stringify(error.data ?? "")}`);
      return result;
    });
  }
}

module.exports = { Presence };
