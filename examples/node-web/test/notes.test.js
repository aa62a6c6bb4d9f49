import assert from "node:assert/strict";
import test from "node:test";
import { Notes } from "../src/notes.js";
import { escapeHtml, page } from "../src/page.js";

test("the newest note comes first", () => {
  const notes = new Notes();
  notes.add("first");
  notes.add("  second ");
  assert.deepEqual(notes.all().map((note) => note.text), ["second", "first"]);
});

test("empty and endless notes are refused", () => {
  const notes = new Notes();
  assert.throws(() => notes.add("   "), /not empty/);
  assert.throws(() => notes.add("x".repeat(501)), /at most 500/);
});

test("a note is removed once", () => {
  const notes = new Notes();
  const { id } = notes.add("gone soon");
  assert.equal(notes.remove(id), true);
  assert.equal(notes.remove(id), false);
});

test("what a user writes is escaped", () => {
  assert.equal(escapeHtml(`<b a="1">'&`), "&lt;b a=&quot;1&quot;&gt;&#39;&amp;");
  const html = page([{ id: 1, text: "<script>alert(1)</script>" }], { "app.js": "a.js", "app.css": "a.css" });
  assert.ok(!html.includes("<script>alert"));
});
