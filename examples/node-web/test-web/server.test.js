// Runs against the bundled assets in dist/: build first.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test, { after, before } from "node:test";
import { makeServer } from "../src/server.js";

const dist = new URL("../dist/", import.meta.url);
let server, base;

before(async () => {
  server = makeServer(dist);
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  base = `http://127.0.0.1:${server.address().port}`;
});
after(() => {
  server.close();
  server.closeAllConnections();
});

test("a note that is sent is shown and can be removed", async () => {
  const body = new URLSearchParams({ text: "buy <milk>" });
  const posted = await fetch(`${base}/notes`, { method: "POST", body, redirect: "manual" });
  assert.equal(posted.status, 303);
  const html = await (await fetch(base)).text();
  assert.match(html, /buy &lt;milk&gt;/);
  const [, id] = /data-id="(\d+)"/.exec(html);
  assert.equal((await fetch(`${base}/notes/${id}`, { method: "DELETE" })).status, 204);
});

test("assets come from the bundle with their type", async () => {
  const manifest = JSON.parse(readFileSync(new URL("manifest.json", dist)));
  const script = await fetch(`${base}/assets/${manifest["app.js"]}`);
  assert.equal(script.headers.get("content-type"), "text/javascript");
  assert.ok(!(await script.text()).includes("import"));
  assert.equal((await fetch(`${base}/assets/../package.json`)).status, 404);
});

test("bad forms are refused", async () => {
  const post = (text) => fetch(`${base}/notes`, { method: "POST", body: new URLSearchParams({ text }) });
  assert.equal((await post("")).status, 422);
  assert.equal((await post("x".repeat(5000))).status, 422);
});
