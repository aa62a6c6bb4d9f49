// Bundles assets/ into dist/: one script without imports, comments out of the style sheet, names that carry the
// content's hash, and a manifest from plain to hashed names. The same input gives the same bytes.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const IMPORT = /^import\s*\{[^}]*\}\s*from\s*"\.\/(.+)";\n?/gm;

export function bundleScript(entry, read, seen = new Set()) {
  if (seen.has(entry)) return "";
  seen.add(entry);
  const source = read(entry);
  const before = [...source.matchAll(IMPORT)].map(([, path]) => bundleScript(path, read, seen)).join("");
  return before + source.replace(IMPORT, "").replace(/^export /gm, "").trim() + "\n";
}

export const shrinkStyle = (source) =>
  source
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/\s+/g, " ")
    .replace(/ ?([{};:,]) ?/g, "$1")
    .trim();

export function hashedName(name, content) {
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 8);
  return name.replace(/\.(\w+)$/, `.${hash}.$1`);
}

function main() {
  const assets = new URL("../assets/", import.meta.url);
  const dist = new URL("../dist/", import.meta.url);
  const read = (name) => readFileSync(new URL(name, assets), "utf8");
  const outputs = { "app.js": bundleScript("app.js", read), "app.css": shrinkStyle(read("app.css")) };
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist);
  const manifest = {};
  for (const [name, content] of Object.entries(outputs)) {
    manifest[name] = hashedName(name, content);
    writeFileSync(new URL(manifest[name], dist), content);
    console.log(`${manifest[name]}  ${content.length} bytes`);
  }
  writeFileSync(new URL("manifest.json", dist), JSON.stringify(manifest, null, 2) + "\n");
}

if (process.argv[1] === new URL(import.meta.url).pathname) main();
