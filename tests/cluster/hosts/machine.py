"""Machines on this one: namespaces with a root file system, a home and a network address of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

SCRIPT = Path(__file__).with_name("machine.sh")

USER_ID = 64000
"""Of the user `likeness`, on every machine."""

PROGRAMS = {
    "ip": "iproute2",
    "ss": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "pivot_root": "util-linux",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "rsync": "rsync",
}
"""What the machines are made with and use, and the Debian packages that have it."""

NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True, order=True)
class Listener:
    """A TCP socket that waits for connections."""

    process: str
    address: str
    port: int

    @property
    def on_loopback(self) -> bool:
        return self.address.startswith("127.") or self.address == "[::1]" or self.address.startswith("[::ffff:127.")


class Machine:
    """One machine. It and all that runs on it end with this process, however that ends."""

    def __init__(
        self,
        name: str,
        address: str,
        *,
        group: int,
        folder: Path,
        environment: str,
        init: Sequence[str],
        shared: Path | None = None,
        project: Path | None = None,
    ) -> None:
        """
        Args:
            name: Its host name, 15 letters at most.
            address: In the network 192.0.2.0/24, which is for documentation and leads nowhere else.
            group: The number of the group in which its user writes files.
            folder: Empty; its root is mounted there, unseen from outside.
            environment: Where it has this program's virtual environment.
            init: The command that is its first process.
            shared: The folder that it has at /shared.
            project: The folder that it has at /root/likeness, not to be written to.
        """
        self.name = name
        self.address = address
        self.group = group
        self._init = tuple(init)
        self._variables = {
            "NAME": name,
            "ROOT": str(folder),
            "ADDRESS": address,
            "USER_ID": str(USER_ID),
            "GROUP_ID": str(group),
            "PYTHON": sys.base_prefix,
            "INSTALLED": str(Path(sys.prefix).resolve()),
            "ENVIRONMENT": environment,
            "SHARED": str(shared or ""),
            "PROJECT": str(project or ""),
            "PATH": PATH,
        }
        self._process: subprocess.Popen[str] | None = None
        self._init_id = 0

    def start(self) -> None:
        """Returns when its first process is about to run; the network comes with `plug`.

        Raises:
            RuntimeError: it cannot be made; the message holds what the script said.
        """
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--fork", "--kill-child", "--"),
                *("sh", str(SCRIPT), *self._init),
            ],
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the machine {self.name} was not made: {self._process.communicate()[1]}")
        (init,) = psutil.Process(self._process.pid).children()
        self._init_id = init.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End all of its processes at once, as a power cut does."""
        if self._process is None:
            return
        if self.runs:
            os.kill(self._init_id, signal.SIGKILL)
        self._process.communicate()
        self._process = None

    def plug(self, switch: Machine) -> None:
        """Give it its address, on a cable to the machine that `make_switch` was called for."""
        switch.ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self._init_id))
        switch.ip("link", "set", self.name, "master", "switch", "up")
        self._up("eth0")
        self.ip("route", "add", "default", "via", switch.address)

    def make_switch(self) -> None:
        """Join the machines that are plugged into this one."""
        self.ip("link", "add", "switch", "type", "bridge")
        self._up("switch")

    def _up(self, device: str) -> None:
        self.ip("link", "set", "lo", "up")
        self.ip("address", "add", f"{self.address}/24", "dev", device)
        self.ip("link", "set", device, "up")

    def ip(self, *words: str) -> None:
        """Run `ip` in its network, with the programs of the real machine."""
        subprocess.run(
            ["nsenter", "--target", str(self._init_id), "--net", "ip", *words], check=True, stdin=subprocess.DEVNULL
        )

    def spawn(self, words: Sequence[str], *, output: IO[bytes] | int, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command there, as root, in root's home.

        Args:
            words: The command.
            output: Where its standard output and its standard error go.
            variables: Its environment, besides `PATH`, `HOME` and `LANG`.
        """
        environment = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", **variables}
        settings = [f"{name}={value}" for name, value in environment.items()]
        return subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "nsenter", "--target", str(self._init_id), *NAMESPACES, "--"),
                *("env", "-i", "--chdir", "/root", *settings, *words),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a command that `spawn` has started, and what it has started."""
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.wait(60)

    def ask(self, *words: str, **variables: str) -> str:
        """What a short command says there.

        Raises:
            subprocess.CalledProcessError: it fails.
            subprocess.TimeoutExpired: it takes more than two minutes.
        """
        process = self.spawn(words, output=subprocess.PIPE, **variables)
        try:
            said = process.communicate(timeout=120)[0].decode()
        finally:
            self.end(process)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, words, said)
        return said

    @property
    def root(self) -> Path:
        """Its root folder, as it is seen from outside."""
        return Path(f"/proc/{self._init_id}/root")

    def processes(self) -> list[psutil.Process]:
        """All that runs on it, its first process among them."""
        if not self.runs:
            return []
        own = _namespace(self._init_id, "pid")
        return [process for process in psutil.process_iter() if _namespace(process.pid, "pid") == own]

    def listeners(self) -> set[Listener]:
        """What waits for TCP connections on it."""
        found = set()
        for line in self.ask("ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes").splitlines():
            _, _, _, local, _, *users = line.split()
            address, _, port = local.rpartition(":")
            names = re.findall(r'\("([^"]+)"', " ".join(users)) or ["?"]
            found |= {Listener(process=name, address=address, port=int(port)) for name in names}
        return found


def _namespace(pid: int, kind: str) -> str:
    """What tells a namespace of a process from others; empty for a process that is gone."""
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def own_listeners() -> set[Listener]:
    """What this process and its children, those outside of all machines, let others connect to."""
    network = _namespace(os.getpid(), "net")
    found = set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        if _namespace(process.pid, "net") != network:
            continue
        try:
            name, sockets = process.name(), process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        found |= {
            Listener(process=name, address=socket.laddr.ip, port=socket.laddr.port)
            for socket in sockets
            if socket.status == psutil.CONN_LISTEN
        }
    return found


def missing() -> str:
    """Why machines cannot be made here, with the remedy; empty where they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "namespaces with mounts and networks of their own are for root on Linux"
    packages = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None})
    return f"apt-get install --no-install-recommends {' '.join(packages)}" if packages else ""
