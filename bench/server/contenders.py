"""The servers that are measured side by side: how each is started, asked and killed. All run one step, `date +%s%N`."""

import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

SECRET = "a secret of webhooks"
# Nothing here is waited for longer; what takes longer is broken, not slow.
PATIENCE = 600
PIPELINE = """\
name: demo
on: { push: {}, manual: {} }
steps:
  - { id: only, cmd: "date +%s%N", cache: never }
"""
PASSWORD = "correct horse battery staple"

MASTER = """\
from buildbot.plugins import *
c = BuildmasterConfig = {{}}
c['workers'] = [worker.LocalWorker('local', max_builds={slots})]
c['protocols'] = {{'null': {{}}}}
c['builders'] = [util.BuilderConfig(name='demo', workernames=['local'], factory=util.BuildFactory([
    steps.ShellCommand(command=['date', '+%s%N'])]))]
c['collapseRequests'] = False
c['schedulers'] = [
    schedulers.SingleBranchScheduler(name='push', change_filter=util.ChangeFilter(), builderNames=['demo']),
    schedulers.ForceScheduler(name='force', builderNames=['demo'])]
c['www'] = {{'port': 'tcp:{port}:interface=127.0.0.1',
    'change_hook_dialects': {{'github': {{'secret': {secret!r}, 'strict': True}}}}}}
c['db'] = {{'db_url': 'sqlite:///state.sqlite'}}
c['buildbotNetUsageData'] = None
"""


class Contender:
    """A server in a folder of its own. `process` is the running one."""

    name = ""

    def __init__(self, folder: Path, port: int):
        self.folder, self.port = folder, port
        self.process: subprocess.Popen | None = None
        self.held = threading.local()
        folder.mkdir(parents=True)

    def command(self) -> list:
        raise NotImplementedError

    def launch(self) -> float:
        """Starts it; seconds to the first answer."""
        log = (self.folder / "log").open("ab")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PACE_")}
        environment |= {"XDG_STATE_HOME": str(self.folder / "state"), "XDG_CACHE_HOME": str(self.folder / "cache")}
        began = time.perf_counter()
        self.process = subprocess.Popen(
            list(map(str, self.command())), cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        while True:
            if self.answers():
                return time.perf_counter() - began
            if self.process.poll() is not None or time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"{self.name} does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.001)

    def answers(self) -> bool:
        try:
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            link.request("GET", self.first)
            answer = link.getresponse()
            answer.read()
            link.close()
            return answer.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            # Its session is its own: what it started goes with it.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def memory(self) -> float:
        """Resident MiB of the server and of what it started."""
        return sum(resident(pid) for pid in family(self.process.pid)) / 2**20

    def cpu(self) -> float:
        """Seconds of the server and of all that it started and that ended."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def link(self) -> http.client.HTTPConnection:
        """One connection for each thread, kept open."""
        if getattr(self.held, "to", None) != self.process.pid:
            self.held.link, self.held.to = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60), self.process.pid
        return self.held.link

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict | None = None) -> tuple[int, bytes]:
        for attempt in (1, 2, 3):
            link = self.link()
            try:
                link.request(method, path, body or None, headers or {})
                answer = link.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError):
                # It may close what was idle; asking again is harmless, everything carries a key.
                link.close()
                if attempt == 3:
                    raise

    def wait(self, what: str, holds, pause: float = 0.002):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if (found := holds()) is not None:
                return found
            time.sleep(pause)
        raise RuntimeError(f"{self.name}: waited in vain for {what}: {(self.folder / 'log').read_text()[-2000:]}")


class Paceline(Contender):
    name = "paceline"
    first = "/healthz"

    def __init__(self, folder: Path, port: int, pace: Path, slots: int):
        super().__init__(folder, port)
        self.pace, self.slots, self.token = pace, slots, ""

    def command(self) -> list:
        return [self.pace, "server", "--listen", f"127.0.0.1:{self.port}", "--data", self.folder / "data", "--agent-slots", self.slots]

    def prepare(self) -> None:
        """The first user by the link that the server prints, a token, and a project with a repository of git."""
        repository = self.folder / "repository"
        repository.mkdir()
        (repository / "paceline.yaml").write_text(PIPELINE)
        who = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]
        for words in [["init", "--quiet", "--initial-branch=main"], ["add", "."], ["commit", "--quiet", "--message=first"]]:
            subprocess.run(["git", *who, *words], cwd=repository, check=True)
        self.commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True).stdout.strip()
        self.wait("this server to lead", self.leads)
        found = self.wait("the setup link", lambda: re.search(r"/setup/(\S+)", (self.folder / "log").read_text()))
        self.call("POST", "/sign-up", {"link": found.group(1), "user": "bench", "password": PASSWORD})
        wanted = {"label": "bench", "scopes": ["admin"], "days": 7}
        self.token = self.call("POST", "/sign-in", {"user": "bench", "password": PASSWORD, "token": wanted})["token"]
        self.call("POST", "/projects", {"name": "demo", "repository": str(repository), "webhook_secret": SECRET})

    def leads(self):
        status, body = self.ask("GET", "/readyz")
        return True if status == 200 and b"this server leads" in body else None

    def call(self, method: str, path: str, body=None, key: str = ""):
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        if key:
            headers["idempotency-key"] = key
        status, text = self.ask(method, "/api/v1" + path, json.dumps(body).encode() if body is not None else b"", headers)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {text[:500].decode(errors='replace')}")
        return json.loads(text) if text[:1] in (b"{", b"[") else text

    def trigger(self, key: str) -> str:
        """Of a commit that is there already: a forced build of the others asks no repository either."""
        return self.call("POST", "/projects/demo/runs", {"commit": self.commit}, key)["id"]

    def ended(self, run: str):
        return True if self.call("GET", f"/runs/{run}")["run"]["ended"] else None

    def succeeded(self, run: str) -> bool:
        return self.call("GET", f"/runs/{run}")["run"]["state"] == "success"

    def newest(self) -> tuple[int, str]:
        """How many runs there are, and the last one."""
        runs = self.call("GET", "/runs?limit=1")["items"]
        return (runs[0]["number"], runs[0]["id"]) if runs else (0, "")

    def printed_at(self, run: str) -> float:
        """Seconds since 1970 at which the step's process said its time."""
        return int(self.call("GET", f"/runs/{run}/steps/only/log").split()[0]) / 1e9

    def idle(self):
        _, text = self.ask("GET", "/metrics")
        active = re.search(rb"^pace_runs_active (\d+)", text, re.M)
        waiting = re.search(rb"^pace_deliveries_open (\d+)", text, re.M)
        return True if int(active.group(1)) == 0 and int(waiting.group(1)) == 0 else None

    def hook(self, number: str) -> tuple[str, bytes, dict]:
        body = json.dumps({"ref": "refs/heads/main", "after": self.commit, "message": f"push {number}", "author": "anna"}).encode()
        sign = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"x-paceline-signature": f"sha256={sign}", "x-paceline-delivery": number, "content-type": "application/json"}
        return "/hooks/demo", body, headers

    def ready_again(self) -> float:
        """Seconds from a start to leading."""
        began = time.perf_counter()
        self.launch()
        self.wait("this server to lead", self.leads, 0.001)
        return time.perf_counter() - began


class Buildbot(Contender):
    name = "Buildbot"
    first = "/api/v2"

    def __init__(self, folder: Path, port: int, program: Path, slots: int):
        super().__init__(folder, port)
        self.program = program
        done = subprocess.run([program, "create-master", folder / "master"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"buildbot create-master: {done.stdout[-500:]}{done.stderr[-500:]}")
        (folder / "master" / "master.cfg").write_text(MASTER.format(port=port, slots=slots, secret=SECRET))

    def command(self) -> list:
        return [self.program, "start", "--nodaemon", self.folder / "master"]

    def prepare(self) -> None:
        self.commit = "0" * 39 + "1"
        self.builder = self.read("/builders")["builders"][0]["builderid"]

    def read(self, path: str) -> dict:
        status, text = self.ask("GET", "/api/v2" + path)
        if status >= 300:
            raise RuntimeError(f"GET {path}: {status} {text[:300].decode(errors='replace')}")
        return json.loads(text)

    def trigger(self, key: str) -> str:
        body = {"id": 1, "jsonrpc": "2.0", "method": "force", "params": {"builderid": str(self.builder), "reason": key}}
        status, text = self.ask("POST", "/api/v2/forceschedulers/force", json.dumps(body).encode(), {"content-type": "application/json"})
        if status >= 300:
            raise RuntimeError(f"force: {status} {text[:300].decode(errors='replace')}")
        return str(next(iter(json.loads(text)["result"][1].values())))

    def ended(self, run: str):
        return True if self.read(f"/buildrequests/{run}")["buildrequests"][0]["complete"] else None

    def succeeded(self, run: str) -> bool:
        return self.read(f"/buildrequests/{run}")["buildrequests"][0]["results"] == 0

    def newest(self) -> tuple[int, str]:
        requests = self.read("/buildrequests?order=-buildrequestid&limit=1")["buildrequests"]
        return (requests[0]["buildrequestid"], str(requests[0]["buildrequestid"])) if requests else (0, "")

    def printed_at(self, run: str) -> float:
        build = self.read(f"/buildrequests/{run}/builds")["builds"][0]["buildid"]
        # The first step is the set-up of the worker where a version has one; the time stands in one of them.
        for step in self.read(f"/builds/{build}/steps")["steps"]:
            for log in self.read(f"/steps/{step['stepid']}/logs")["logs"]:
                for chunk in self.read(f"/logs/{log['logid']}/contents")["logchunks"]:
                    if found := re.search(r"^o(\d{19})$", chunk["content"], re.M):
                        return int(found.group(1)) / 1e9
        raise RuntimeError("Buildbot: no log has the time")

    def idle(self):
        return None if self.read("/buildrequests?complete=false&limit=1")["buildrequests"] else True

    def hook(self, number: str) -> tuple[str, bytes, dict]:
        url = "http://127.0.0.1/demo"
        one = {"id": self.commit, "message": f"push {number}", "timestamp": "2026-01-01T00:00:00Z", "url": url, "distinct": True}
        one |= {"author": {"name": "anna", "email": "anna@example.com"}, "added": [], "removed": [], "modified": ["README.md"]}
        repository = {"name": "demo", "full_name": "anna/demo", "html_url": url, "clone_url": url, "owner": {"name": "anna"}}
        body = json.dumps({"ref": "refs/heads/main", "commits": [one], "head_commit": one, "repository": repository, "deleted": False, "created": False}).encode()
        sign = hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()
        headers = {"x-hub-signature": f"sha1={sign}", "x-github-event": "push", "x-github-delivery": number, "content-type": "application/json"}
        return "/change_hook/github", body, headers

    def ready_again(self) -> float:
        return self.launch()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid] + [one for child in children for one in family(child)]


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
