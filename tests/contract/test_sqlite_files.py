"""What can happen to a SQLite file: other processes, crashes, full disks, files that are not ours."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from holdfast.errors import RequestError, SchemaTooNew, StoreUnavailable
from holdfast.model.commit import Committed
from holdfast.store.migrate import load_migrations
from holdfast.store.open import open_store
from holdfast.store.rows import RunQuery
from holdfast.store.sqlite import connection as connections
from holdfast.store.sqlite import filesystem
from holdfast.store.sqlite.store import SqliteStore
from holdfast.testing.store_cases import RUNNING, going_on, opened, opening, worker
from tests.places import ROOT

COMMITTER = Path(__file__).with_name("committer.py")
LONG = bool(os.environ.get("HOLDFAST_TEST_LONG"))


@asynccontextmanager
async def open_file(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def committer(path: Path, name: str, runs: int, commits: int) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for a line before it commits."""
    command = [sys.executable, str(COMMITTER), str(path), name, str(runs), str(commits)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def begin(*processes: subprocess.Popen[str]) -> None:
    """Let processes go at once, when all are ready."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def told(process: subprocess.Popen[str]) -> list[str]:
    """What a process said until its end. A last line without an end does not count."""
    assert process.stdout is not None
    return [line.rstrip("\n") for line in process.stdout if line.endswith("\n")]


async def positions(path: Path) -> dict[str, int]:
    """How far each run is, having checked that journals have no gaps."""
    async with open_file(path) as store:
        assert await store.check() == []
        return {run.id: run.position for run in await store.runs(RunQuery(limit=1000))}


class TestProcesses:
    async def test_two_processes_lose_no_commit(self, tmp_path: Path) -> None:
        path = tmp_path / "runs.db"
        with committer(path, "a", 5, 60) as first, committer(path, "b", 5, 60) as second:
            begin(first, second)
            ends = await asyncio.gather(asyncio.to_thread(told, first), asyncio.to_thread(told, second))
            assert [end[-1] for end in ends] == ["done", "done"]
        assert await positions(path) == {f"{name}-{number}": 60 for name in "ab" for number in range(5)}

    async def test_a_process_notices_what_another_writes(self, tmp_path: Path) -> None:
        path = tmp_path / "runs.db"
        async with open_file(path) as store:
            await opened(store, "ours")
            assert not await store.wait(0.1)
            with committer(path, "theirs", 1, 1) as process:
                while await store.wait(0.3):
                    pass  # it opened the file
                waiting = asyncio.create_task(store.wait(20))
                await asyncio.sleep(0)
                begin(process)
                assert await waiting
                assert await asyncio.to_thread(told, process)
            assert await store.run("theirs-0") is not None

    @pytest.mark.parametrize("seed", range(20 if LONG else 4))
    async def test_a_kill_loses_nothing_that_was_acknowledged(self, tmp_path: Path, seed: int) -> None:
        path = tmp_path / "runs.db"
        with committer(path, "a", 8, 10_000) as victim, committer(path, "b", 2, 10_000) as other:
            begin(victim, other)
            lines = [asyncio.create_task(asyncio.to_thread(told, process)) for process in (victim, other)]
            async with open_file(path) as store:
                while not await store.count(RunQuery()):
                    await asyncio.sleep(0.005)
            await asyncio.sleep(random.Random(seed).uniform(0.0, 0.5))
            victim.send_signal(signal.SIGKILL)
            await asyncio.sleep(0.05)
            other.send_signal(signal.SIGKILL)
            acknowledged = [line.split() for task in lines for line in await task]
        found = await positions(path)
        assert found
        assert all(found[run] >= int(position) for run, position in acknowledged)
        # One commit per run was under way; it may have been written without having been acknowledged.
        last = {run: int(position) for run, position in acknowledged}
        assert all(position - last.get(run, 0) <= 1 for run, position in found.items())

    async def test_processes_may_make_the_schema_at_once(self, tmp_path: Path) -> None:
        stores = [SqliteStore(tmp_path / "runs.db") for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        for number, store in enumerate(stores):
            await opened(store, f"r{number}")
            await store.close()
        assert len(await positions(tmp_path / "runs.db")) == 4


class TestFailures:
    async def test_a_lock_is_waited_for(self, tmp_path: Path) -> None:
        async with open_file(tmp_path / "runs.db") as store:
            with sqlite3.connect(tmp_path / "runs.db", isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                writing = asyncio.ensure_future(store.commit([opening("r")]))
                await asyncio.sleep(0.1)
                assert not writing.done()
                assert await store.run("r") is None
                other.execute("ROLLBACK")
            other.close()
            assert isinstance((await writing)[0], Committed)

    async def test_a_lock_that_stays_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("holdfast.store.sqlite.writer.LOCK_PATIENCE", 0.1)
        monkeypatch.setattr("holdfast.store.sqlite.failures.LOCK_PATIENCE", 0.1)
        async with open_file(tmp_path / "runs.db") as store:
            other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            calls = [store.commit([opening(run)]) for run in "ab"]
            for answer in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(answer, StoreUnavailable)
                assert "runs.db is locked by another process" in answer.message
            with pytest.raises(StoreUnavailable, match="is locked by another process"):
                await asyncio.to_thread(store.renew, "w", 1)
            other.execute("ROLLBACK")
            other.close()
            await opened(store, "a")

    @pytest.mark.parametrize("thread", [False, True], ids=["inline", "thread"])
    async def test_a_full_disk_fails_the_group_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, thread: bool
    ) -> None:
        monkeypatch.setattr("holdfast.store.sqlite.writer.SHORT", -1.0 if thread else 60.0)
        async with open_file(tmp_path / "runs.db") as store:
            await opened(store, "a", "b")
            writer = store._open_writer()
            (pages,) = writer.connection.execute("PRAGMA page_count").fetchone()
            writer.connection.execute(f"PRAGMA max_page_count = {pages + 5}")
            large = going_on("a", 1, blobs={"h": b"x" * 200_000})
            answers = await asyncio.gather(
                store.commit([going_on("b", 1)]), store.commit([large]), return_exceptions=True
            )
            for answer in answers:
                assert isinstance(answer, StoreUnavailable)
                assert "the disk is full" in answer.message
            assert not writer.connection.in_transaction
            assert isinstance((await store.commit([going_on("b", 1)]))[0], Committed)
            writer.connection.execute("PRAGMA max_page_count = 1000000")
            assert isinstance((await store.commit([large]))[0], Committed)
            assert await store.check() == []

    async def test_a_write_that_the_system_refuses_is_reported(self, tmp_path: Path) -> None:
        """With a limit on the size of files, COMMIT itself fails: the log cannot grow."""
        script = f"""
import asyncio, resource, signal, sys
sys.path[:0] = [{str(ROOT / "src")!r}]
from holdfast.errors import StoreUnavailable
from holdfast.store.sqlite.store import SqliteStore
from holdfast.testing.store_cases import going_on, opening

async def main():
    store = SqliteStore({str(tmp_path / "runs.db")!r})
    await store.open()
    await store.commit([opening("r")])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    try:
        await store.commit([going_on("r", 1, blobs={{"h": b"x" * 2_000_000}})])
    except StoreUnavailable as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(await store.commit([going_on("r", 1)]))
    await store.close()

asyncio.run(main())
"""
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        lines = done.stdout.splitlines()
        assert "runs.db cannot" in lines[0], done.stderr
        assert lines[1].startswith("[Committed(run='r', position=2")
        assert await positions(tmp_path / "runs.db") == {"r": 2}


class TestForeignFiles:
    @pytest.mark.parametrize("content", [b"no database at all, but text\n" * 50, b"x"], ids=["text", "byte"])
    async def test_a_file_that_is_no_database(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "notes.txt"
        path.write_bytes(content)
        await refused(path, "is no SQLite database")
        assert path.read_bytes() == content
        assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]

    @pytest.mark.parametrize("table", ["users", "schema_version", "workflow_runs"])
    @pytest.mark.parametrize("mode", ["delete", "wal"])
    async def test_a_database_of_another_program(self, tmp_path: Path, table: str, mode: str) -> None:
        path = tmp_path / "theirs.db"
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute(f"CREATE TABLE {table} (version INTEGER, min_code INTEGER)")
        connection.close()
        before = path.read_bytes()
        await refused(path, "belongs to another program")
        assert path.read_bytes() == before

    async def test_a_truncated_file(self, tmp_path: Path) -> None:
        path = await sound(tmp_path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        await refused(path, "is truncated")
        path.write_bytes(content[:50])
        await refused(path, "is truncated")

    async def test_a_damaged_file(self, tmp_path: Path) -> None:
        path = await sound(tmp_path)
        content = bytearray(path.read_bytes())
        content[100:4096] = b"\xa5" * 3996
        path.write_bytes(content)
        await refused(path, "is damaged|refused that")

    async def test_damage_inside_is_found_by_check(self, tmp_path: Path) -> None:
        path = await sound(tmp_path)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE workflow_runs SET position = 5 WHERE id = 'r0'")
            connection.execute("DELETE FROM workflow_runs WHERE id = 'r1'")
        connection.close()
        async with open_file(path) as store:
            faults = await store.check()
        assert any("run r0: its journal has a gap" in fault for fault in faults)
        assert any("belongs to no row of workflow_runs" in fault for fault in faults)

    async def test_an_empty_file_is_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "new.db"
        path.touch()
        assert await positions(path) == {}

    async def test_a_missing_directory(self, tmp_path: Path) -> None:
        error = await refused(tmp_path / "no" / "such" / "runs.db", "there is no directory")
        assert "mkdir -p" in error.fix
        assert list(tmp_path.iterdir()) == []

    async def test_a_directory(self, tmp_path: Path) -> None:
        await refused(tmp_path, "is a directory")

    @pytest.mark.parametrize("what", ["file", "directory"])
    async def test_what_may_only_be_read(self, tmp_path: Path, what: str) -> None:
        """Tried as a user whom the rights bind, since they do not bind root."""
        if os.geteuid() == 0 and shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and setpriv is not here")
        path = await sound(tmp_path)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)
        tmp_path.chmod(0o777 if what == "file" else 0o555)
        path.chmod(0o444 if what == "file" else 0o666)
        script = (
            f"import asyncio, sys; sys.path[:0] = {[*sys.path, str(ROOT / 'src')]!r}\n"
            "from holdfast.store.sqlite.store import SqliteStore\n"
            f"asyncio.run(SqliteStore({str(path)!r}).open())"
        )
        become = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        done = await asyncio.to_thread(
            subprocess.run,
            [*become, sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
        )
        if "Permission denied" in done.stderr and "holdfast" not in done.stderr:
            pytest.skip("the other user may not run this Python")
        assert "StoreUnavailable" in done.stderr
        assert "is read-only" in done.stderr

    async def test_a_network_file_system_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "network_type", lambda _: "nfs4")
        error = await refused(tmp_path / "runs.db", r"is on a network file system \(nfs4\)")
        assert "PostgreSQL" in error.fix

    def test_the_innermost_mount_counts(self, tmp_path: Path) -> None:
        mounts = tmp_path / "mountinfo"
        inner = tmp_path / "with space"
        inner.mkdir()
        mounts.write_text(
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n"
            f"40 22 0:40 / {tmp_path} rw shared:2 - nfs4 host:/export rw,vers=4.2\n"
            f"41 40 0:41 / {str(inner).replace(' ', chr(92) + '040')} rw - tmpfs tmpfs rw\n"
        )
        assert filesystem.network_type(tmp_path, mounts) == "nfs4"
        assert filesystem.network_type(inner, mounts) == ""
        assert filesystem.network_type(Path("/"), mounts) == ""
        assert filesystem.network_type(tmp_path) == ""


class TestSchema:
    async def test_a_schema_for_newer_code_is_refused(self, tmp_path: Path) -> None:
        path = await sound(tmp_path)
        change(path, "INSERT INTO schema_version VALUES (900, 900, 0)")
        before = path.read_bytes()
        with pytest.raises(SchemaTooNew, match=r"runs\.db has a schema for code 900"):
            await SqliteStore(path).open()
        assert path.read_bytes() == before

    async def test_a_newer_schema_that_old_code_can_work_with_is_opened(self, tmp_path: Path) -> None:
        path = await sound(tmp_path)
        change(path, "INSERT INTO schema_version VALUES (900, 1, 0)")
        assert len(await positions(path)) == 3

    async def test_a_failing_migration_leaves_the_file_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = await sound(tmp_path)
        bad = load_migrations(connections._MIGRATIONS)[0]
        change(path, "DELETE FROM schema_version")
        monkeypatch.setattr(connections, "load_migrations", lambda _: [bad])
        with pytest.raises(Exception, match="already exists"):
            await SqliteStore(path).open()
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM schema_version").fetchone() == (0,)
        connection.close()


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("sqlite:///runs.db", "{cwd}/runs.db"),
            ("sqlite:///data/my%20runs.db", "{cwd}/data/my runs.db"),
            ("sqlite:////var/lib/runs.db", "/var/lib/runs.db"),
            ("sqlite:///:memory:", ":memory:"),
        ],
    )
    def test_a_url_names_a_file(self, url: str, path: str) -> None:
        assert open_store(url).url == f"sqlite:///{path.format(cwd=Path.cwd())}"

    @pytest.mark.parametrize(
        "url",
        [
            *("", "runs.db", "sqlite", "sqlite:", "sqlite://", "sqlite:///", "mysql://x/y"),
            *("sqlite://runs.db", "sqlite:///dir/", "sqlite:///a?mode=ro"),
        ],
    )
    def test_any_other_url_is_refused(self, url: str) -> None:
        with pytest.raises(RequestError) as caught:
            open_store(url)
        assert "sqlite:///" in caught.value.fix

    def test_passwords_are_not_shown(self) -> None:
        with pytest.raises(RequestError) as caught:
            open_store("mysql://user:secret@host/db")
        assert "secret" not in str(caught.value)
        assert "host/db" in str(caught.value)

    async def test_the_clock_may_be_given(self) -> None:
        store = open_store("sqlite:///:memory:", lambda: 42)
        await store.open()
        await store.enlist(worker("w", leased_until=41))
        assert await store.reclaim(["w"], "expired") == []
        assert (await store.workers())[0].stopped_at == 42
        await store.close()


async def refused(path: Path, message: str) -> StoreUnavailable:
    """Open a file that cannot be opened; the error names it."""
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable, match=message) as caught:
        await store.open()
    assert str(path) in caught.value.message
    assert caught.value.fix
    await store.close()
    return caught.value


async def sound(folder: Path) -> Path:
    """A file with three runs, and no log beside it."""
    path = folder / "runs.db"
    async with open_file(path) as store:
        await store.commit([opening(f"r{number}", status=RUNNING) for number in range(3)])
    return path


def change(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()
