// The web server: GET /, POST /notes, DELETE /notes/ID, GET /assets/NAME.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { Notes } from "./notes.js";
import { page } from "./page.js";

const BODY_MAX = 4096;
const TYPES = { js: "text/javascript", css: "text/css" };

export function makeServer(dist, notes = new Notes()) {
  const assets = JSON.parse(readFileSync(new URL("manifest.json", dist)));
  const files = new Map(Object.values(assets).map((name) => [name, readFileSync(new URL(name, dist))]));
  return createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const send = (status, type, body = "", headers = {}) =>
      response.writeHead(status, { "content-type": type, ...headers }).end(body);
    if (request.method === "GET" && pathname === "/") return send(200, "text/html", page(notes.all(), assets));
    if (request.method === "GET" && pathname.startsWith("/assets/")) {
      const name = pathname.slice("/assets/".length);
      if (!files.has(name)) return send(404, "text/plain", "no such asset");
      const type = TYPES[name.split(".").pop()];
      return send(200, type, files.get(name), { "cache-control": "public, max-age=31536000, immutable" });
    }
    if (request.method === "POST" && pathname === "/notes") {
      try {
        notes.add(new URLSearchParams(await bodyOf(request)).get("text"));
      } catch (error) {
        return send(error instanceof RangeError ? 422 : 400, "text/plain", error.message);
      }
      return send(303, "text/plain", "", { location: "/" });
    }
    const removed = request.method === "DELETE" && /^\/notes\/(\d+)$/.exec(pathname);
    if (removed) return send(notes.remove(Number(removed[1])) ? 204 : 404, "text/plain");
    return send(404, "text/plain", "no such page");
  });
}

async function bodyOf(request) {
  let body = "";
  for await (const chunk of request) {
    body += chunk;
    if (body.length > BODY_MAX) throw new RangeError("the form is too large");
  }
  return body;
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const port = Number(process.env.PORT ?? 8080);
  makeServer(new URL("../dist/", import.meta.url)).listen(port, "127.0.0.1", () => console.log(`on port ${port}`));
}
