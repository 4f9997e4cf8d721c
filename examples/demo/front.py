"""front: a web page, and the JSON behind it, for which it asks orders. Usage: front.py PORT"""

import sys

import web

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Pillion demo</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1c2430 }
  h1 { font-size: 1.4rem } code { background: #eef1f5; padding: .1em .3em; border-radius: 3px }
  button { font: inherit; padding: .4em 1em; border: 1px solid #1c2430; border-radius: 4px; background: #fff; cursor: pointer }
  table { border-collapse: collapse; width: 100%; margin-top: 1rem } td, th { text-align: left; padding: .25em .6em; border-bottom: 1px solid #d8dde4 }
  .bad { color: #b3261e }
</style>
<h1>front &rarr; orders &rarr; payments</h1>
<p>Each arrow is a plain local HTTP call: sidecar, mutual TLS, sidecar. Two instances of <code>payments</code> share the work.</p>
<p><button id="one">ask for a price</button> <button id="many">ask 20 times</button></p>
<table><thead><tr><th>item</th><th>price</th><th>answered by</th><th>ms</th></tr></thead><tbody id="rows"></tbody></table>
<script>
  const items = ["tea", "bread", "honey"];
  async function ask() {
    const item = items[Math.floor(Math.random() * items.length)], count = 1 + Math.floor(Math.random() * 9);
    const start = performance.now();
    const answer = await fetch(`/quote?item=${item}&count=${count}&id=page`);
    const result = await answer.json(), row = document.createElement("tr");
    const cells = answer.ok
      ? [`${count} × ${item}`, (result.cents / 100).toFixed(2), `${result.orders}, ${result.payments}`]
      : [`${count} × ${item}`, "–", `${answer.status}: ${result.error}`];
    for (const text of [...cells, (performance.now() - start).toFixed(1)])
      row.appendChild(document.createElement("td")).textContent = text;
    if (!answer.ok) row.className = "bad";
    document.getElementById("rows").prepend(row);
  }
  document.getElementById("one").onclick = ask;
  document.getElementById("many").onclick = async () => { for (let i = 0; i < 20; i++) await ask(); };
</script>
"""


def quote(query, _headers):
    method = query.get("method", "GET")
    return web.call("orders", "/quote", method, item=query["item"], count=query["count"], id=query["id"], method=method)


web.serve(int(sys.argv[1]), {"/": lambda _query, _headers: PAGE, "/quote": quote})
