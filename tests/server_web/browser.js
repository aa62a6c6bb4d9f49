// Scenes for a browser: node browser.js SCENE URL SETUP_LINK REPOSITORY PICTURES. Exit code 0: it went as it should.
"use strict";

const assert = require("node:assert");
const path = require("node:path");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

const [scene, url, link, repository, pictures] = process.argv.slice(2);
const DEADLINE_MS = 120_000;
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks the test for something, and waits until it is done. */
async function ask(what) {
  console.log(`ASK ${what}`);
  await answers.next();
}

/** A page that remembers what a browser complains about. */
async function open(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  page.complaints = [];
  page.on("console", (message) => {
    // A server that is killed is away; the page says so and comes back.
    const away = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/.test(message.text());
    // A refused form is a page with a status of its own.
    const refused = /the server responded with a status of 4\d\d/.test(message.text()) && page.refusals > 0;
    if (message.type() === "error" && !(away && page.mayBeAway) && !refused) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("dialog", (dialog) => dialog.accept());
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
  return page;
}

async function picture(page, name) {
  console.log(`picture ${name}`);
  await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });
}

async function setUp(page) {
  await page.goto(link);
  await page.getByLabel("Your name").fill("anna");
  await page.getByLabel("Password").fill("correct horse battery");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByRole("heading", { name: "Projects" }).waitFor();
}

async function addProject(page, name) {
  await page.goto(`${url}/new`);
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Repository").fill(repository);
  await page.getByRole("button", { name: "Add project" }).click();
  await page.getByText("The project is there.").waitFor();
}

async function trigger(page, name) {
  await page.goto(`${url}/p/${name}/-/trigger`);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.waitForURL(/\/runs\/\d+$/);
}

/** The text of all lines of the log that is shown, by number. */
const shownLines = (page) =>
  page.locator("#log .l").evaluateAll((lines) => lines.map((line) => [Number(line.id.slice(1)), line.lastElementChild.textContent]));

const scenes = {
  async first_day(page, context) {
    await page.goto(link);
    await picture(page, "set-up");
    await setUp(page);
    await picture(page, "no-project");
    page.refusals = 1;
    await page.goto(`${url}/new`);
    await page.getByLabel("Name", { exact: true }).fill("../etc");
    await page.getByLabel("Repository").fill(repository);
    await page.getByRole("button", { name: "Add project" }).click();
    await page.getByRole("alert").getByText("is no name of a project").waitFor();
    assert.equal(await page.getByLabel("Repository").inputValue(), repository, "what was typed is still there");
    await picture(page, "new-project");
    page.refusals = 0;
    await addProject(page, "team/web");
    await picture(page, "project-empty");

    await page.getByRole("link", { name: "Run pipeline" }).click();
    await page.getByLabel("greeting").fill("good day");
    await picture(page, "trigger");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.waitForURL(/\/p\/team\/web\/-\/runs\/1$/);
    await page.getByRole("heading", { name: "#1 A checkout that ships <script>" }).waitFor();
    await picture(page, "run-running");

    // The page changes by itself until the approval is asked for.
    await page.getByRole("heading", { name: "Ship it?" }).waitFor();
    await page.getByText("waits for").first().waitFor();
    await picture(page, "run-asking");
    await page.getByRole("button", { name: "Approve" }).click();
    await page.getByText("You approved it.").waitFor();
    await page.locator("#head .state.good").waitFor();
    await picture(page, "run-done");

    await page.locator("#steps").getByRole("link", { name: "deps" }).click();
    await page.locator("#log .l").first().waitFor();
    assert.equal(await page.locator("#log .f2").first().textContent(), "good day", "green is green");
    assert.equal(await page.locator("#log b").count(), 0, "output is text");
    assert.ok((await shownLines(page)).some(([, text]) => text === "good day <b>world</b>"));
    await page.getByText("Times").click();
    await page.locator("#log time").first().waitFor();
    await picture(page, "step");
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download" }).click()]);
    assert.match(require("node:fs").readFileSync(await download.path(), "utf8"), /good day/);

    await page.goto(`${url}/p/team/web/-/secrets`);
    await page.getByLabel("Name").fill("REGISTRY_TOKEN");
    await page.getByLabel("Value").fill("s3cret-value");
    await page.getByRole("button", { name: "Keep it" }).click();
    await page.getByText("The secret is kept.").waitFor();
    assert.ok(!(await page.content()).includes("s3cret-value"), "a secret is never shown");
    await picture(page, "secrets");

    await page.goto(`${url}/tokens`);
    await page.getByLabel("What it is for").fill("laptop");
    await page.getByRole("button", { name: "Make token" }).click();
    assert.match(await page.locator("#made").textContent(), /^pace_/);
    await picture(page, "tokens");

    await page.goto(`${url}/p/team/web/-/settings`);
    await page.getByLabel("Days to keep").fill("30");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Saved.").waitFor();
    assert.equal(await page.getByLabel("Days to keep").inputValue(), "30");
    await picture(page, "settings");
    for (const name of ["users", "agents", "audit"]) {
      await page.goto(`${url}/${name}`);
      await picture(page, name);
    }
    await page.goto(`${url}/p/team/web/-/deliveries`);
    await picture(page, "deliveries");
    await page.goto(`${url}/p/team/web`);
    await picture(page, "project");
    await page.goto(url);
    await picture(page, "projects");
    await page.setViewportSize({ width: 390, height: 800 });
    for (const [name, place] of [["projects", "/"], ["project", "/p/team/web"], ["run", "/p/team/web/-/runs/1"], ["step", "/p/team/web/-/runs/1/steps/0"]]) {
      await page.goto(url + place);
      await picture(page, `phone-${name}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.ok(!wide, `${name} is wider than a phone`);
    }
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.emulateMedia({ colorScheme: "dark" });
    for (const [name, place] of [["project", "/p/team/web"], ["run", "/p/team/web/-/runs/1"], ["step", "/p/team/web/-/runs/1/steps/0"]]) {
      await page.goto(url + place);
      await picture(page, `dark-${name}`);
    }
    await page.emulateMedia({ colorScheme: "light" });

    await page.goto(`${url}/p/team/web/-/runs/1`);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("You are signed out.").waitFor();
    await picture(page, "sign-in");
    await page.goto(`${url}/p/team/web/-/runs/1`);
    await page.waitForURL(/sign-in\?next=/);
    page.refusals = 1;
    await page.getByLabel("Name").fill("anna");
    await page.getByLabel("Password").fill("wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("alert").waitFor();
    await page.getByLabel("Password").fill("correct horse battery");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(/\/p\/team\/web\/-\/runs\/1$/);
    await page.goto(`${url}/p/nothing/here`);
    await picture(page, "not-found");
  },

  async killed_while_watched(page) {
    await setUp(page);
    await page.goto(`${url}/agents`);
    await page.getByRole("button", { name: "Add an agent" }).click();
    const command = await page.locator("code.block").textContent();
    await ask(`agent ${command.split("--token ")[1].trim()}`);
    await page.goto(`${url}/agents`);
    await page.getByRole("cell", { name: "builder", exact: true }).waitFor();
    await addProject(page, "web");
    await trigger(page, "web");
    await page.locator("#steps").getByRole("link", { name: "count" }).click();
    await page.getByText("line-40-end", { exact: true }).waitFor();
    page.mayBeAway = true;
    await page.evaluate(() => { window.sameTab = true; });
    await ask("kill");
    await page.getByText("waiting for the server").waitFor();
    await ask("start");
    await page.getByText("line-300-end", { exact: true }).waitFor();
    await page.locator("#head .state.good").waitFor();
    assert.ok(await page.evaluate(() => window.sameTab), "the page was not loaded again");
    const lines = (await shownLines(page)).filter(([, text]) => /^line-\d+-end$/.test(text));
    assert.deepEqual(lines.map(([, text]) => text), Array.from({ length: 300 }, (_, at) => `line-${at + 1}-end`));
    const numbers = (await shownLines(page)).map(([number]) => number);
    assert.deepEqual(numbers, numbers.map((_, at) => numbers[0] + at), "numbers without gaps");
  },

  async many_lines(page) {
    await setUp(page);
    await addProject(page, "web");
    await trigger(page, "web");
    await page.locator("#steps").getByRole("link", { name: "print" }).click();
    await page.getByText("number 120000 of many", { exact: true }).waitFor();
    const count = await page.locator("#log .l").count();
    assert.ok(count <= 5000, `${count} lines in the page`);
    // The tab still answers at once.
    assert.equal(await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => done(1)))), 1);
    await page.reload();
    await page.getByText("number 120000 of many", { exact: true }).waitFor();
    const last = (await shownLines(page)).at(-1);
    assert.equal(last[1], `number 120000 of many`);
    const first = (await shownLines(page))[0][0];
    await page.getByRole("link", { name: "Earlier lines" }).click();
    await page.locator(`#L${first - 1}`).waitFor({ state: "attached" });
    const lines = await shownLines(page);
    assert.deepEqual(lines.map(([number]) => number), lines.map((_, at) => lines[0][0] + at), "nothing is missing in between");
    await page.goto(`${page.url().split("?")[0]}?line=60000#L60000`);
    const shown = (await shownLines(page)).find(([number]) => number === 60000);
    const ahead = 60000 - Number(shown[1].split(" ")[1]);
    assert.ok(ahead >= 0 && ahead < 20, "a line has its own number");
    await picture(page, "step-middle");
  },

  async keyboard(page) {
    const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
    /** Goes on with Tab until what has the focus is called so. */
    const reach = async (name) => {
      for (let tries = 0; tries < 80; tries++) {
        await press("Tab");
        const here = await page.evaluate(() => {
          const element = document.activeElement;
          const label = element.labels?.[0]?.textContent;
          const ring = getComputedStyle(element);
          return { name: (label || element.getAttribute("aria-label") || element.textContent || "").trim(), ring: ring.outlineStyle !== "none" };
        });
        if (here.name === name) {
          assert.ok(here.ring, `${name} shows that it has the focus`);
          return;
        }
      }
      assert.fail(`no way to ${name} by Tab`);
    };
    await page.goto(link);
    await reach("Your name");
    await page.keyboard.type("anna");
    await press("Tab");
    await page.keyboard.type("correct horse battery");
    await press("Enter");
    await page.getByRole("heading", { name: "Projects" }).waitFor();
    await reach("New project");
    await press("Enter");
    await page.waitForURL(/\/new$/);
    await reach("Name");
    await page.keyboard.type("web");
    await press("Tab");
    await page.keyboard.type(repository);
    await press("Enter");
    await page.getByText("The project is there.").waitFor();
    await reach("Run pipeline");
    await press("Enter");
    await page.waitForURL(/\/trigger$/);
    await reach("Run");
    await press("Enter");
    await page.waitForURL(/\/runs\/1$/);
    await page.locator("#head .state.bad").waitFor();
    await page.getByText("out of luck").first().waitFor();
    await picture(page, "run-failed");
    await reach("Rerun failed");
    await press("Enter");
    await page.waitForURL(/\/runs\/2$/);
    await page.locator("#head .state.bad").waitFor();
    await page.goto(`${url}/p/web/-/runs/2/steps/1`);
    await reach("Rerun from here");
    await press("Enter");
    await page.waitForURL(/\/runs\/3$/);
  },

  async without_script(page) {
    await setUp(page);
    await addProject(page, "web");
    await trigger(page, "web");
    for (let tries = 0; (await page.locator("#steps .state.busy").count()) === 0; tries++) {
      assert.ok(tries < 600, "the step runs at last");
      await page.reload();
    }
    await page.locator("#steps").getByRole("link", { name: "wait" }).click();
    for (let tries = 0; (await page.getByText("waiting", { exact: true }).count()) === 0; tries++) {
      assert.ok(tries < 600, "the log is there at last");
      await page.reload();
    }
    await page.getByRole("link", { name: "run #1" }).click();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("The run is being stopped.").waitFor();
    for (let tries = 0; (await page.locator("#head .state.quiet").count()) === 0; tries++) {
      assert.ok(tries < 2000, "the run is cancelled at last");
      await page.reload();
    }
    await page.getByRole("button", { name: "Rerun all" }).waitFor();
  },
};

(async () => {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, javaScriptEnabled: scene !== "without_script" });
  const page = await open(context);
  try {
    await scenes[scene](page, context);
    assert.deepEqual(page.complaints, [], "the browser complains");
  } catch (error) {
    await page.screenshot({ path: path.join(pictures, `failed-${scene}.png`) }).catch(() => {});
    const log = await page.locator("#log").evaluate((box) => ({ ...box.dataset, lines: box.childElementCount, last: box.lastElementChild?.textContent, state: document.getElementById("log-state").textContent, later: document.getElementById("later").hidden })).catch(() => null);
    console.error(error.stack, "\nat", page.url(), page.complaints, log, "\n", (await page.locator("main").innerText().catch(() => "")).slice(0, 1000));
    process.exitCode = 1;
  }
  await browser.close();
  process.exit();
})();
