// Live pages. Everything works without this file, but does not change by itself.
"use strict";

// ---- parts of a page that are fetched anew when the server says that something changed

const LIVE_PAUSE_MS = 700;
const TICK_MS = 5000;

function live(url) {
  let pending = false, again = false;
  const refresh = async () => {
    if (pending) { again = true; return; }
    pending = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html", "x-live": "1" }, credentials: "same-origin" });
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* the server is away; the stream says when it is back */ }
    setTimeout(() => { pending = false; if (again) { again = false; refresh(); } }, LIVE_PAUSE_MS);
  };
  // What runs takes longer without anything happening.
  setInterval(() => { if (!document.hidden && document.querySelector(".state.busy")) refresh(); }, TICK_MS);
  return stream(() => url, { changed: refresh, open: refresh });
}

function swap(fresh) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const next = fresh.getElementById(part.id);
    if (!next || next.innerHTML === part.innerHTML) continue;
    // Somebody types there: it waits.
    if (part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) continue;
    const focus = part.contains(document.activeElement) ? place(part, document.activeElement) : null;
    const scrolled = [...part.querySelectorAll(".graph, .scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
    part.replaceChildren(...next.childNodes);
    part.querySelectorAll(".graph, .scroll").forEach((box, i) => { if (scrolled[i]) [box.scrollLeft, box.scrollTop] = scrolled[i]; });
    if (focus) part.querySelectorAll(focus.kind)[focus.at]?.focus({ preventScroll: true });
  }
}

function place(part, element) {
  const kind = element.localName;
  return { kind, at: [...part.querySelectorAll(kind)].indexOf(element) };
}

// ---- a stream of events that comes back, whatever happens

const AWAY_MS = [500, 1000, 2000, 4000, 8000];

function stream(url, on) {
  let source, tries = 0, closed = false, timer;
  const open = () => {
    source = new EventSource(url());
    for (const name of Object.keys(on)) {
      if (name !== "open" && name !== "away") source.addEventListener(name, (event) => on[name](event));
    }
    source.onopen = () => { tries = 0; on.open?.(); };
    source.onerror = () => {
      on.away?.();
      // The browser comes back by itself unless the answer was no stream: a proxy says 502 while the server restarts.
      if (closed || source.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(open, AWAY_MS[Math.min(tries++, AWAY_MS.length - 1)]);
    };
  };
  open();
  const close = () => { closed = true; clearTimeout(timer); source.close(); };
  addEventListener("pagehide", close, { once: true });
  return close;
}

// ---- the log of a step

const LINES_MAX = 5000;
// One event has at most 500 lines.
const EVENTS_MAX = LINES_MAX / 500;
// Laying out thousands of lines takes a while: lines that come together are painted together.
const PAINT_PAUSE_MS = 120;

function log(box) {
  const state = document.getElementById("log-state");
  const followButton = document.getElementById("follow");
  const earlier = document.getElementById("earlier");
  const later = document.getElementById("later");
  let end = Number(box.dataset.end), from = Number(box.dataset.from), follow = false;

  const add = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  };
  const trim = () => {
    const extra = box.childElementCount - LINES_MAX;
    if (extra > 0) {
      const range = document.createRange();
      range.setStartBefore(box.firstElementChild);
      range.setEndAfter(box.children[extra - 1]);
      range.deleteContents();
    }
    const first = Number(box.firstElementChild?.id.slice(1));
    if (!(first > 1) || (extra <= 0 && !left)) return;
    earlier.hidden = false;
    earlier.dataset.line = first;
    earlier.href = `${location.pathname}?${query({ line: Math.max(1, first - LINES_MAX) })}`;
  };
  const query = (more) => {
    const values = new URLSearchParams(box.dataset.lines.split("?")[1]);
    for (const [name, value] of Object.entries(more)) values.set(name, value);
    return values;
  };
  const toEnd = () => scrollTo({ top: document.documentElement.scrollHeight });
  const setFollow = (on) => {
    follow = on;
    followButton.setAttribute("aria-pressed", String(on));
    if (on) toEnd();
  };

  earlier.addEventListener("click", async (event) => {
    if (earlier.dataset.line) return; // lines were cut off above: the link leads there
    event.preventDefault();
    const answer = await fetch(`${box.dataset.lines}&before=${from}`, { credentials: "same-origin" });
    if (!answer.ok) return;
    const height = document.documentElement.scrollHeight;
    from = Number(answer.headers.get("x-log-from"));
    box.prepend(add(await answer.text()));
    scrollBy(0, document.documentElement.scrollHeight - height);
    earlier.hidden = from === 0;
    earlier.href = `${location.pathname}?${query({ before: from })}`;
  });

  if (!box.dataset.follow || !later.hidden) return;

  // Lines wait here until the browser has time to paint: a step that prints a hundred thousand of them freezes nothing.
  let waiting = [], left = false, planned = false, full = false, painted = end;
  const paint = () => {
    planned = false;
    if (!follow && box.childElementCount >= LINES_MAX) {
      // Somebody reads above: what is there stays, and the rest is a link.
      full = true;
      later.hidden = false;
      later.href = `${location.pathname}?${query({ from: painted })}`;
      close();
      state.textContent = "there is more below";
      waiting = [];
      return;
    }
    if (left) box.replaceChildren();
    box.append(add(waiting.join("")));
    trim();
    [waiting, left, painted] = [[], false, end];
    if (follow) toEnd();
  };
  const wait = (html) => {
    waiting.push(html);
    // A tab that nobody sees does not paint; only the last lines will be shown.
    if (waiting.length > EVENTS_MAX) { waiting.shift(); left = true; }
    if (planned) return;
    planned = true;
    setTimeout(paint, document.hidden ? 1000 : PAINT_PAUSE_MS);
  };
  followButton.hidden = false;
  followButton.addEventListener("click", () => {
    if (full) location.href = `${location.pathname}?${query({})}`;
    else setFollow(!follow);
  });
  addEventListener("wheel", (event) => { if (event.deltaY < 0) setFollow(false); }, { passive: true });
  addEventListener("touchmove", () => setFollow(false), { passive: true });
  addEventListener("keydown", (event) => { if (["PageUp", "Home", "ArrowUp"].includes(event.key)) setFollow(false); });
  setFollow(!location.hash);

  const close = stream(() => `${box.dataset.follow}&from=${end}`, {
    open: () => { state.textContent = "live"; },
    away: () => { state.textContent = "waiting for the server"; },
    lines: (event) => {
      const upTo = Number(event.lastEventId), begins = Number(event.data.slice(0, event.data.indexOf("\n")));
      // A stream that comes back may say again what is here already.
      if (begins !== end) return;
      end = upTo;
      box.dataset.end = end;
      wait(event.data.slice(event.data.indexOf("\n") + 1));
    },
    end: () => { state.textContent = ""; followButton.hidden = true; close(); },
  });
}

// ---- begin

if (document.body.dataset.live) live(document.body.dataset.live);
const box = document.getElementById("log");
if (box) log(box);
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
