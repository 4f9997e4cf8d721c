// Two people chat, each in a browser of their own, while things break. Usage: drive.js URL
//
// Prints what happens, one line each. A line that begins with `!` asks whoever started this for something, and is answered by
// a line on stdin with the names of the instances of logic in question: `!spread` when all have written something, `!choose` for
// one that is to be killed, `!kill` when it is dead, `!restart` when it is back and has written again. But for `!choose`, the
// people go on talking meanwhile.
// Exit code 0: all that was said was seen by both, once and in one order, and nothing was refused that should not be.

"use strict";

const assert = require("node:assert/strict");
const readline = require("node:readline");
const puppeteer = require("puppeteer-core");

const PATIENCE_MS = 60_000; // for one state to come
const TURNS = 10; // what each says in a phase, at the least

class Person {
  said = [];
  errors = [];

  static async arrive(browser, url, name) {
    const person = new Person();
    person.name = name;
    const context = await browser.createBrowserContext(); // no cookie, no cache in common
    const page = (person.page = await context.newPage());
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => person.errors.push(error.message));
    page.on("console", (message) => message.type() === "error" && person.errors.push(message.text()));
    await page.goto(url);
    await page.type("#name", name);
    await page.keyboard.press("Enter");
    await person.sees("#present li", (items, wanted) => items.includes(wanted), name);
    return person;
  }

  /** Says the next thing, and waits until it stands in the room. */
  async speaks() {
    const text = `${this.name} says ${this.said.length + 1}`;
    this.said.push(text);
    await this.types(text);
    await this.sees("#messages li:not(.waiting) .text", (items, wanted) => items.includes(wanted), text);
  }

  async types(text) {
    await this.page.focus("#text");
    await this.page.keyboard.sendCharacter(text);
    await this.page.keyboard.press("Enter");
  }

  /** Waits until `holds(texts of the elements, wanted)` is true, in the page: it knows nothing of what stands around it here. */
  async sees(selector, holds, wanted) {
    const texts = `[...document.querySelectorAll(${JSON.stringify(selector)})].map((item) => item.textContent)`;
    try {
      await this.page.waitForFunction(`(${holds})(${texts}, ${JSON.stringify(wanted)})`, { polling: "mutation" });
    } catch (error) {
      throw new Error(`${this.name} waits for ${holds} of ${selector} with ${JSON.stringify(wanted)}: ${error.message}`);
    }
  }

  /** What is said in the room, as this person sees it. */
  texts() {
    return this.page.$$eval("#messages li:not(.waiting):not(.failed) .text", (items) => items.map((item) => item.textContent));
  }
}

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function asks(request) {
  console.log(`!${request}`);
  const { value, done } = await answers.next();
  assert(!done, `nobody answers !${request}`);
  return value;
}

/** All talk until `end` has come, and each a few turns more. */
async function talk(people, end) {
  let over = false;
  const talking = people.map(async (person) => {
    while (!over) await person.speaks();
    for (let turn = 0; turn < TURNS; turn++) await person.speaks();
  });
  await Promise.all([end.finally(() => (over = true)), ...talking]);
}

/** Both see all that either has said, each thing once, in the same order, and each person's in the order of saying. */
async function agree(people, besides = []) {
  const all = people.flatMap(({ said }) => said).concat(besides);
  for (const person of people) {
    await person.sees("#messages li:not(.waiting):not(.failed)", (items, count) => items.length >= count, all.length);
  }
  const [seen, ...others] = await Promise.all(people.map((person) => person.texts()));
  for (const other of others) assert.deepEqual(other, seen, "they see the same in the same order");
  assert.deepEqual([...seen].sort(), [...all].sort(), "all that was said is there, once");
  for (const { name, said } of people) {
    assert.deepEqual(seen.filter((text) => said.includes(text)), said, `what ${name} said, in its order`);
  }
  return all.length;
}

/** Posts one thing twice under the same id, as a page does that has not heard of the first. */
async function repeats(page, text) {
  await page.evaluate(async (text) => {
    const socket = new WebSocket(new URL("room", location.href.replace(/^http/, "ws")));
    await new Promise((opened) => socket.addEventListener("open", opened));
    const say = (message) => socket.send(JSON.stringify(message));
    say({ type: "join", name: "Ada", after: 0 });
    const post = { type: "post", id: crypto.randomUUID(), text };
    say(post);
    say(post);
    // Posts of one page are written one after the other: when this one stands there, both have been.
    const end = crypto.randomUUID();
    say({ type: "post", id: end, text: "that was it" });
    await new Promise((seen) => {
      socket.addEventListener("message", ({ data }) => JSON.parse(data).id === end && seen());
    });
    socket.close();
  }, text);
  return [text, "that was it"];
}

async function story(browser, url) {
  const ada = await Person.arrive(browser, url, "Ada");
  const grace = await Person.arrive(browser, url, "Grace");
  const people = [ada, grace];
  const besides = [];
  for (const person of people) {
    await person.sees("#present li", (items, wanted) => items.join() === wanted, "Ada,Grace");
  }
  console.log("Ada and Grace see each other in the room");

  await talk(people, asks("spread"));
  await agree(people);
  console.log("they have talked until each instance of logic had written for them");

  const victim = await asks("choose");
  await talk(people, asks("kill"));
  await agree(people);
  console.log(`${victim} was killed while they talked, and they have talked on`);

  await talk(people, asks("restart"));
  await agree(people);
  console.log(`${victim} is back and has written for them again`);

  besides.push(...(await repeats(ada.page, "twice under one id")));
  await agree(people, besides);
  console.log("a message that was sent twice under one id stands there once");

  await grace.types("/dance");
  await grace.sees(".failed .reason", (items, wanted) => items.join().includes(wanted), "there is no command /dance");
  const failed = (await Promise.all(people.map(({ page }) => page.$$(".failed")))).flat().length - 1;
  console.log("a message that cannot be said is shown to its author as not sent, with the reason");

  const count = await agree(people, besides);
  await grace.page.close();
  await ada.sees("#present li", (items, wanted) => items.join() === wanted, "Ada");
  console.log("Grace has closed the page, and Ada sees that she is gone");

  const errors = people.flatMap(({ name, errors }) => errors.map((error) => `${name}: ${error}`));
  console.log(`${count} messages, seen by both, each once and in the same order; failed ${failed}, errors in the pages ${errors.length}`);
  assert.deepEqual({ failed, errors }, { failed: 0, errors: [] });
}

async function main() {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    // The pipe ends with this process, and the browser with the pipe.
    pipe: true,
    timeout: PATIENCE_MS,
    protocolTimeout: 2 * PATIENCE_MS,
    // As root, Chromium has no sandbox of its own and says so.
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  try {
    await story(browser, process.argv[2]);
  } finally {
    await browser.close();
  }
  process.exit(0); // whoever reads the answers would wait for more
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
