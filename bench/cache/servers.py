"""The caches that are measured side by side: how each is started, and where it listens."""

import os
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from machine import ROOT

BUILDGRID = """\
description: loopback cache
server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
authorization:
  method: none
monitoring:
  enabled: false
thread-pool-size: 100
storages:
  - !disk-storage &cas-disk
    path: {data}
caches:
  - !lru-action-cache &ac
    storage: *cas-disk
    max-cached-refs: 1000000
    cache-failed-actions: true
    allow-updates: true
instances:
  - name: ''
    services:
      - !cas
        storage: *cas-disk
      - !bytestream
        storage: *cas-disk
      - !action-cache
        cache: *ac
"""

NGINX = """\
worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  client_body_temp_path {data}/temporary;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port};
    root {data};
    location / {{ dav_methods PUT; create_full_put_path on; client_body_buffer_size 64k; }}
  }}
}}
"""


@dataclass
class Server:
    """A running cache."""

    name: str
    port: int
    pid: int
    instance: str = ""
    durable: bool = False

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass
class Servers:
    """Starts caches below `folder`; they end with `held`."""

    folder: Path
    held: ExitStack

    def pace(self, program: Path, data: Path | None = None) -> Server:
        data = data or self.folder / "pace"
        port = free_port()
        command = [program, "cache", "serve", "--listen", f"127.0.0.1:{port}", "--data", data]
        return Server("paceline", port, self.start(command, port), durable=True)

    def buildgrid(self) -> Server:
        program = tool("buildgrid")
        port, config = free_port(), self.folder / "buildgrid.yml"
        config.write_text(BUILDGRID.format(port=port, data=self.folder / "buildgrid"))
        return Server("BuildGrid", port, self.start([program, "server", "start", config], port))

    def casd(self) -> Server:
        program = tool("buildbox-casd")
        port = free_port()
        bind = ["--bind", f"127.0.0.1:{port}", "--local-server-instance", "main"]
        command = [program, *bind, "--quota-high", "40G", self.folder / "casd"]
        return Server("buildbox-casd", port, self.start(command, port), instance="main")

    def nginx(self) -> Server:
        program = tool("nginx")
        port, config, data = free_port(), self.folder / "nginx.conf", self.folder / "nginx"
        (data / "temporary").mkdir(parents=True)
        # Its workers run as another user.
        for open_to_all in [self.folder, data, data / "temporary"]:
            open_to_all.chmod(0o777)
        config.write_text(NGINX.format(port=port, folder=self.folder, data=data))
        return Server("nginx", port, self.start([program, "-c", config], port))

    def start(self, command: list, port: int) -> int:
        log = (self.folder / f"{port}.log").open("w")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PACE_")}
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)
        self.held.callback(stop, process)
        wait_for(port, process, self.folder / f"{port}.log")
        return process.pid


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tool(name: str) -> Path:
    """Installs it if it is not here."""
    done = subprocess.run([ROOT / "dev" / "tools.sh", name], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"dev/tools.sh cannot install {name}")
    return Path(done.stdout.strip())


def release(package: str, binary: str) -> Path:
    """Builds a program of ours; prints nothing to standard output."""
    command = ["cargo", "build", "--release", "--package", package, "--bin", binary]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release" / binary


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, log: Path, seconds: float = 180) -> None:
    """BuildGrid takes four seconds to start, and forty on a busy machine."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args[0]} does not listen: {log.read_text()[-2000:]}")
