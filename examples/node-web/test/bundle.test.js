import assert from "node:assert/strict";
import test from "node:test";
import { bundleScript, hashedName, shrinkStyle } from "../tools/bundle.js";

test("imports are put in place, each once", () => {
  const files = {
    "main.js": 'import { a } from "./a.js";\nimport { b } from "./b.js";\na(b);\n',
    "a.js": 'import { b } from "./b.js";\nexport function a(x) { return x + b; }\n',
    "b.js": "export const b = 1;\n",
  };
  const bundled = bundleScript("main.js", (name) => files[name]);
  assert.equal(bundled, "const b = 1;\nfunction a(x) { return x + b; }\na(b);\n");
});

test("a style sheet loses its comments and spaces", () => {
  assert.equal(shrinkStyle("/* x */\na { b: c;\n  d: e }\n"), "a{b:c;d:e}");
});

test("a name carries the content's hash", () => {
  assert.equal(hashedName("app.css", "a{}"), hashedName("app.css", "a{}"));
  assert.notEqual(hashedName("app.css", "a{}"), hashedName("app.css", "b{}"));
  assert.match(hashedName("app.css", "a{}"), /^app\.[0-9a-f]{8}\.css$/);
});
