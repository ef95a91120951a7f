"""What can happen between a store and its server: lost connections and answers, restarts, refusals."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from holdfast.errors import RequestError, SchemaTooNew, StoreDamaged, StoreError, StoreUnavailable
from holdfast.model.commit import Committed, Conflict
from holdfast.model.ids import SECOND
from holdfast.store import open as stores
from holdfast.store.migrate import load_migrations
from holdfast.store.port import Store
from holdfast.store.postgres import schema
from holdfast.store.postgres.clock import ServerClock
from holdfast.testing.store_cases import LANE, RUNNING, going_on, opened, run_of, send, worker
from tests.servers.cluster import Cluster, cluster, free_port
from tests.servers.pooler import Pooler, pooler
from tests.servers.postgres import with_database

CERTIFICATE = Path(__file__).parents[1] / "servers" / "localhost.pem"


@asynccontextmanager
async def open_url(url: str) -> AsyncIterator[Store]:
    store = stores.open_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def run_sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def refusal(url: str) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        await stores.open_store(url).open()
    assert caught.value.fix
    return caught.value


class TestConnections:
    @pytest.fixture
    def between(self, postgres_url: str) -> Iterator[Pooler]:
        with pooler(postgres_url) as between:
            yield between

    @pytest.fixture
    async def store(self, between: Pooler) -> AsyncIterator[Store]:
        async with open_url(between.url) as store:
            yield store

    async def test_a_commit_whose_answer_was_lost_is_known_by_its_id(
        self, store: Store, between: Pooler
    ) -> None:
        await opened(store, "r", "s", status=RUNNING)
        between.cut = ("after", b"holdfast.advance")
        with pytest.raises(StoreUnavailable):
            await store.commit([going_on(run, 1, id=f"lost-{run}") for run in "rs"])
        assert [(await run_of(store, run)).last_commit for run in "rs"] == ["lost-r", "lost-s"]
        assert await store.commit([going_on("r", 1, id="lost-r")]) == [Conflict("r")]
        assert isinstance((await store.commit([going_on("r", 2)]))[0], Committed)

    async def test_a_commit_that_did_not_arrive_is_not_written(self, store: Store, between: Pooler) -> None:
        await opened(store, "r", status=RUNNING)
        between.cut = ("before", b"holdfast.advance")
        with pytest.raises(StoreUnavailable):
            await store.commit([going_on("r", 1)])
        assert (await run_of(store, "r")).position == 1
        assert isinstance((await store.commit([going_on("r", 1)]))[0], Committed)

    async def test_a_delivery_whose_answer_was_lost_comes_once(self, store: Store, between: Pooler) -> None:
        await opened(store, "r")
        between.cut = ("after", b"holdfast.deliver")
        with pytest.raises(StoreUnavailable):
            await send(store, "r", "k")
        assert (await send(store, "r", "k")).outcome == "repeated"
        assert len(await store.inbox("r")) == 1

    async def test_reads_and_leases_survive_a_lost_connection(self, store: Store, between: Pooler) -> None:
        await store.enlist(worker("w"))
        assert await asyncio.to_thread(store.renew, "w", 1)
        await opened(store, "r")
        for cut in ("before", "after"):
            between.cut = (cut, b"FROM holdfast.workflow_runs AS r WHERE r.id")
            assert (await run_of(store, "r")).id == "r"
        between.drop_clients()
        assert await asyncio.to_thread(store.renew, "w", 2)
        assert await store.held("w") == []
        await opened(store, "s")

    async def test_a_group_that_met_a_deadlock_is_written_again(self, postgres_url: str) -> None:
        """Somebody else locks runs in another order; our group is the victim, and waits until the other is done."""
        async with (
            open_url(postgres_url) as store,
            await psycopg.AsyncConnection.connect(postgres_url) as other,
        ):
            await opened(store, "a", "b", status=RUNNING)
            lock = "SELECT 1 FROM holdfast.workflow_runs WHERE id = %s FOR UPDATE"
            await other.execute("SET deadlock_timeout = '1min'")
            await other.execute(lock, ("b",))
            group = asyncio.ensure_future(store.commit([going_on("a", 1), going_on("b", 1)]))
            while not await _waits(postgres_url):
                await asyncio.sleep(0.01)
            await other.execute(lock, ("a",))
            await other.commit()
            assert [type(answer) for answer in await group] == [Committed, Committed]

    async def test_tls_is_spoken_and_checked(self, postgres_url: str) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
        with pooler(postgres_url, tls=context) as between:
            trusting = f"{between.url}?sslmode=verify-full&sslrootcert={CERTIFICATE}"
            async with open_url(trusting) as store:
                await opened(store, *(f"r{number}" for number in range(200)))
                assert len((await store.load("r0")).rows) == 1  # type: ignore[union-attr]
            for authority in ("/nowhere.pem", "system"):
                error = await refusal(f"{between.url}?sslmode=verify-full&sslrootcert={authority}")
                assert "does not agree on TLS" in error.message
                assert "sslrootcert" in error.fix
        with pooler(postgres_url) as between:
            assert "TLS" in (await refusal(f"{between.url}?sslmode=require")).message

    async def test_a_pooler_may_refuse_a_parameter(self, between: Pooler) -> None:
        error = await refusal(f"{between.url}?options=-cjit%3Doff")
        assert "ignore_startup_parameters" in error.fix


class TestHints:
    async def test_a_process_is_told_of_work(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At once: here it never looks by itself."""
        for name in ("FIRST_POLL", "BUSY_POLL", "LAST_POLL"):
            monkeypatch.setattr(f"holdfast.store.postgres.store.{name}", 1000.0)
        async with open_url(postgres_url) as store, open_url(postgres_url) as other:
            store._pause = 1000.0  # type: ignore[attr-defined]

            async def several() -> None:
                await asyncio.gather(*(opened(other, f"r-{n}") for n in range(3)))

            for act in (opened(other, "r"), send(other, "r", "k"), other.release("w", ["r"]), several()):
                waiting = asyncio.create_task(store.wait(100))
                await asyncio.sleep(0)
                await act
                assert await waiting

    async def test_what_others_write_is_seen_without_being_told(self, postgres_url: str) -> None:
        with pooler(postgres_url) as between:
            async with open_url(between.url) as store, open_url(between.url) as other:
                await opened(store, "ours", status=RUNNING)
                assert not await store.wait(0.2)
                await opened(other, "r", status=RUNNING)
                assert await store.wait(100)
                await other.commit([going_on("r", 1)])
                assert await store.wait(100)
                await send(other, "r", "k")
                assert await store.wait(100)
                assert await other.claim_run("holder", "r") is not None
                await other.release("holder", ["r"])
                assert await store.wait(100)
                assert not await store.wait(0.2)


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    with cluster(max_connections="20", fsync="off", wal_writer_delay="10s") as own:
        yield own


class TestServer:
    """A server of our own, which may be ended."""

    async def test_work_goes_on_after_restarts(self, own: Cluster) -> None:
        """Of any kind; what was acknowledged stays, and nothing is written twice."""
        async with open_url(own.url) as store:
            runs = [f"r{number}" for number in range(20)]
            await opened(store, *runs, status=RUNNING)
            driving = asyncio.gather(*(drive(store, run, 60) for run in runs))
            for mode in ("fast", "immediate"):
                while sum([(await patiently(store, run)).position for run in runs]) < (
                    200 if mode == "fast" else 500
                ):
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(own.stop, mode)
                await asyncio.to_thread(own.start)
            await driving
            assert [(await run_of(store, run)).position for run in runs] == [60] * 20
            assert await store.check() == []

    async def test_a_claim_that_the_server_forgot_harms_nobody(self, own: Cluster) -> None:
        """Claims wait for no disk: after a crash another worker may get the same run under the same epoch."""
        async with open_url(own.url) as store:
            for number in range(20):
                run = f"forgotten-{number}"
                await opened(store, run, workflow="forgotten")
                (first,) = await store.claim("first", [("default", "forgotten")], 1)
                await asyncio.to_thread(own.stop, "immediate")
                await asyncio.to_thread(own.start)
                await patiently(store, run)
                if claimed := await store.claim("second", [("default", "forgotten")], 1):
                    break
            (second,) = claimed
            assert (second.run.id, second.run.epoch) == (first.run.id, first.run.epoch) == (run, 2)
            commits = [going_on(run, 1, epoch=2, worker=name, id=name) for name in ("first", "second")]
            answers = [*(await store.commit(commits[:1])), *(await store.commit(commits[1:]))]
            assert [type(answer) for answer in answers] == [Committed, Conflict]
            assert await store.held("second") == [run]  # and gives it back: it does not drive it
            assert await store.check() == []

    async def test_a_password_is_asked_for_and_not_told(self, own: Cluster) -> None:
        run_sql(own.url, "CREATE ROLE known LOGIN PASSWORD 'right'")
        own.require_password("known")
        known = own.url.replace("postgres@", "known:wr0ng-secret@")
        error = await refusal(known)
        assert "refused the password" in error.message
        assert "wr0ng" not in f"{error.message}{error.fix}{error.__cause__}{error.__context__}"
        assert "password" in (await refusal(own.url.replace("postgres@", "known@"))).message

    async def test_no_connection_is_left(self, own: Cluster) -> None:
        run_sql(own.url, "CREATE ROLE few LOGIN SUPERUSER CONNECTION LIMIT 0", "ALTER ROLE few NOSUPERUSER")
        error = await refusal(own.url.replace("postgres@", "few@"))
        assert "takes no more connections" in error.message

    async def test_work_waits_for_a_free_connection(self, own: Cluster) -> None:
        """A store whose connections went to others says so, and goes on when some are free."""
        async with open_url(own.url) as first:
            await opened(first, "waits", status=RUNNING)
        run_sql(
            own.url,
            "CREATE ROLE limited LOGIN",
            "GRANT USAGE ON SCHEMA holdfast TO limited",
            "GRANT ALL ON ALL TABLES IN SCHEMA holdfast TO limited",
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA holdfast TO limited",
        )
        async with open_url(own.url.replace("postgres@", "limited@")) as store:
            driving = asyncio.create_task(drive(store, "waits", 100))
            run_sql(
                own.url,
                "ALTER ROLE limited CONNECTION LIMIT 0",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'limited'",
            )
            refused = StoreUnavailable("")
            while "takes no more connections" not in refused.message:  # at first it hears that it was ended
                try:
                    await run_of(store, "waits")
                except StoreUnavailable as error:
                    refused = error
            assert "max_connections" in refused.fix
            run_sql(own.url, "ALTER ROLE limited CONNECTION LIMIT -1")
            await driving
            assert (await patiently(store, "waits")).position == 100

    async def test_a_server_that_is_not_there(self) -> None:
        port = free_port()
        assert "cannot be reached" in (await refusal(f"postgresql://u@127.0.0.1:{port}/d")).message
        assert "cannot be reached" in (await refusal("postgresql://u@/d?host=/nowhere")).message
        assert "cannot be resolved" in (await refusal("postgresql://u@no-such-host.invalid/d")).message


async def drive(store: Store, run: str, end: int) -> None:
    """Commit as a driver does: again and again while the store is away, its own commits known by their ids."""
    for position in range(1, end):
        commit = going_on(run, position, id=f"{run}-{position}")
        while True:
            try:
                (answer,) = await store.commit([commit])
            except StoreUnavailable:
                await asyncio.sleep(0.02)
                continue
            assert isinstance(answer, Committed) or (await patiently(store, run)).last_commit == commit.id
            break


async def patiently(store: Store, run: str) -> Any:
    while True:
        try:
            return await run_of(store, run)
        except StoreUnavailable:
            await asyncio.sleep(0.02)


async def _waits(url: str) -> bool:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return await (await connection.execute(sql)).fetchone() is not None


class TestRefusals:
    async def test_a_database_or_user_that_is_unknown(self, postgres_url: str) -> None:
        assert "no such database" in (await refusal(with_database(postgres_url, "no_such"))).message
        assert "does not know this user" in (await refusal(with_user(postgres_url, "no_such"))).message

    @pytest.mark.parametrize(
        "parameter", ["sslmode=perhaps", "connect_timeout=soon", "target_session_attrs=best"]
    )
    async def test_a_parameter_that_has_another_value(self, postgres_url: str, parameter: str) -> None:
        error = await refusal(f"{postgres_url}{'&' if '?' in postgres_url else '?'}{parameter}")
        assert "a parameter in its URL is wrong" in error.message
        assert parameter.partition("=")[2] in error.message

    async def test_rights_to_make_the_schema(self, bare_postgres_url: str) -> None:
        name = f"weak_{name_of(bare_postgres_url)[-8:]}"
        run_sql(bare_postgres_url, f"CREATE ROLE {name} LOGIN")
        try:
            weak = with_user(bare_postgres_url, name)
            assert "GRANT CREATE" in (await refusal(weak)).fix
            async with open_url(bare_postgres_url):
                pass
            assert "want of rights" in (await refusal(weak)).message
        finally:
            run_sql(bare_postgres_url, f"DROP ROLE {name}")

    async def test_the_rights_that_suffice(self, bare_postgres_url: str) -> None:
        """Those that the documentation names."""
        name = f"user_{name_of(bare_postgres_url)[-8:]}"
        async with open_url(bare_postgres_url):
            pass
        run_sql(
            bare_postgres_url,
            f"CREATE ROLE {name} LOGIN",
            f"GRANT USAGE ON SCHEMA holdfast TO {name}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA holdfast TO {name}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA holdfast TO {name}",
        )
        try:
            async with open_url(with_user(bare_postgres_url, name)) as store:
                await opened(store, "r", tags=("t",))
                await send(store, "r", "k")
                assert await store.claim("w", [LANE], 1)
                await store.enlist(worker("w"))
                assert store.renew("w", 1)
                assert await store.reclaim(["w"], "died") == ["r"]
                assert await store.move_due() == 0
                assert (await store.delete("r")).outcome == "refused"
                assert await store.check() == []
        finally:
            run_sql(bare_postgres_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")

    async def test_a_database_that_is_read_only(self, bare_postgres_url: str) -> None:
        name = name_of(bare_postgres_url)
        run_sql(bare_postgres_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        assert "target_session_attrs" in (await refusal(bare_postgres_url)).fix

    async def test_an_encoding_that_holds_not_everything(
        self, postgres_server: str, bare_postgres_url: str
    ) -> None:
        name = name_of(bare_postgres_url) + "_latin"
        run_sql(postgres_server, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            assert "LATIN1" in (await refusal(with_database(postgres_server, name))).message
        finally:
            run_sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")

    async def test_an_old_server(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema, "OLDEST", 99)
        assert "Use PostgreSQL 99 or later" in (await refusal(postgres_url)).fix

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://user:s3cret@host:port/db",
            "postgresql://user:s3cret@host/db?colour=blue",
            "postgres://user:s3cret@host:5432:5432/db",
            "postgresql://user:%zzs3cret@host/db",
            "postgresql://host/db?password=s3cret&nonsense=1",
        ],
    )
    def test_a_malformed_url_shows_no_password(self, url: str) -> None:
        with pytest.raises(RequestError) as caught:
            stores.open_store(url)
        assert "malformed store URL: postgres" in caught.value.message
        assert "s3cret" not in f"{caught.value.message}{caught.value.__cause__}"

    def test_the_package_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
        with pytest.raises(StoreUnavailable) as caught:
            stores.open_store("postgresql://host/db")
        assert caught.value.fix == 'Run `pip install "holdfast[postgres]"`.'

    @pytest.mark.parametrize(
        ("state", "kind", "word"),
        [
            ("53100", StoreUnavailable, "disk is full"),
            ("XX001", StoreDamaged, "damaged"),
            ("22000", StoreError, "refused"),
        ],
    )
    async def test_what_the_server_refuses_is_explained(
        self, bare_postgres_url: str, state: str, kind: type[StoreError], word: str
    ) -> None:
        """Where the data of one call is to blame, the calls beside it are written."""
        async with open_url(bare_postgres_url) as store:
            await opened(store, "first", "bad", "good", status=RUNNING)
            run_sql(
                bare_postgres_url,
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$",
                "CREATE TRIGGER refuse BEFORE INSERT ON holdfast.journal FOR EACH ROW WHEN (NEW.run = 'bad') "
                "EXECUTE FUNCTION refuse()",
            )
            calls = [store.commit([going_on(run, 1)]) for run in ("first", "bad", "good")]
            # The first goes alone at once, the others together behind it.
            _, bad, good = await asyncio.gather(*calls, return_exceptions=True)
            assert type(bad) is kind
            assert word in str(bad)
            assert type(good) is (kind if issubclass(kind, StoreUnavailable) else list)
            assert (await run_of(store, "bad")).position == 1


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def with_user(url: str, name: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{name}@{rest.rpartition('@')[2]}"


class TestSchema:
    async def test_processes_that_begin_at_once_make_one_schema(self, bare_postgres_url: str) -> None:
        assert stores.schema_of(bare_postgres_url)[0] == 0
        begun = [stores.open_store(bare_postgres_url) for _ in range(6)]
        await asyncio.gather(*(store.open() for store in begun))
        await asyncio.gather(*(opened(store, f"r{number}") for number, store in enumerate(begun)))
        for store in begun:
            await store.close()
        version, newest = stores.schema_of(bare_postgres_url)
        assert version == newest

    async def test_who_may_open_a_newer_schema(self, bare_postgres_url: str) -> None:
        """Code that the newest migration still works with; other code must be upgraded."""
        async with open_url(bare_postgres_url):
            pass
        run_sql(bare_postgres_url, "INSERT INTO holdfast.schema_version VALUES (99, 1, 0)")
        async with open_url(bare_postgres_url) as store:
            await opened(store, "r")
        run_sql(bare_postgres_url, "UPDATE holdfast.schema_version SET min_code = 99 WHERE version = 99")
        with pytest.raises(SchemaTooNew):
            await stores.open_store(bare_postgres_url).open()

    async def test_the_older_code_works_on_during_an_upgrade(
        self, bare_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_url(bare_postgres_url) as old:
            await opened(old, "r", status=RUNNING)
            for file in schema._MIGRATIONS.iterdir():
                (tmp_path / file.name).write_text(file.read_text())
            version = len(load_migrations(tmp_path)) + 1
            (tmp_path / f"{version:04}_next.sql").write_text(
                "-- min_code: 1\nALTER TABLE holdfast.workflow_runs ADD COLUMN colour text NOT NULL DEFAULT 'red';\n"
            )
            monkeypatch.setattr(schema, "_MIGRATIONS", tmp_path)
            async with open_url(bare_postgres_url) as new:
                for position, store in enumerate((old, new, old, new), 1):
                    assert isinstance((await store.commit([going_on("r", position)]))[0], Committed)
                assert await old.claim_run("w", "r") is not None
            assert stores.schema_of(bare_postgres_url)[0] == version


class TestClock:
    async def test_a_wrong_clock_here_does_not_matter(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server's counts, also where it is compared with a lease."""
        import time

        right = time.time_ns
        monkeypatch.setattr("time.time_ns", lambda: right() - 3600 * 10**9)
        async with open_url(postgres_url) as store:
            assert abs(store.now() - right() // 1000) < 60 * SECOND
            await store.enlist(worker("w", leased_until=store.now() + 30 * SECOND))
            assert await store.reclaim(["w"], "expired") == []
            assert (await store.workers())[0].stopped_at == 0

    def test_the_best_reading_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A slow answer tells less than a quick one; a clock that was set is followed."""
        ticks = [0]
        monkeypatch.setattr("holdfast.store.postgres.clock._ticks", lambda: ticks[0])
        clock = ServerClock()

        def read(at: int, took: int, told: int) -> int:
            ticks[0] = at + took
            clock.observe(at, told)
            return clock()

        assert read(0, 10, 1_000_005) == 1_000_010
        assert read(100, 1000, 1_000_900) == 1_001_100
        assert read(2000, 4, 1_002_003) == 1_002_005
        assert read(3000, 10, 5_000_000) == 5_000_005
        assert read(4000, 10, 1_004_005) == 1_004_010

    def test_time_does_not_go_back_for_a_better_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run that was started here after another one was created after it."""
        ticks = [0]
        monkeypatch.setattr("holdfast.store.postgres.clock._ticks", lambda: ticks[0])
        clock = ServerClock()
        ticks[0] = 100
        clock.observe(0, 1_000_090)
        assert clock() == 1_000_140
        ticks[0] = 110
        clock.observe(106, 1_000_098)
        assert [clock(), clock()] == [1_000_141, 1_000_142]
        ticks[0] = 200
        assert clock() == 1_000_190
