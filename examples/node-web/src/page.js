// The page as text: no template engine, everything from outside is escaped.

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export const escapeHtml = (text) => text.replace(/[&<>"']/g, (c) => ESCAPES[c]);

export function page(notes, assets) {
  const items = notes.map((note) => `<li data-id="${note.id}">${escapeHtml(note.text)}</li>`).join("");
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Notes</title>
<link rel="stylesheet" href="/assets/${assets["app.css"]}">
<h1>Notes</h1><form method="post" action="/notes"><input name="text" autofocus><button>Add</button></form>
<ul>${items}</ul><script type="module" src="/assets/${assets["app.js"]}"></script></html>`;
}
