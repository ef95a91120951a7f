"""The command line on PostgreSQL: it makes nothing by itself, tells no password, and says what it finds."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.e2e.cli.calling import Call, Done

SECRET = "not-to-be-told"


@pytest.fixture
def call(call: Call, bare_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Call:
    """On a database of its own, by a URL that holds a password."""
    parts = urlsplit(bare_postgres_url)
    place = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{parts.username}:{SECRET}@{place}"))
    monkeypatch.setenv("HOLDFAST_URL", url)

    def checked(*words: str) -> Done:
        done = call(*words)
        assert SECRET not in done.out + done.err
        return done

    return checked


def test_reading_makes_no_schema(call: Call) -> None:
    for words in (("runs",), ("db", "status"), ("db", "check")):
        done = call(*words)
        assert done.code == 4
        assert "there is no schema holdfast" in done.err
    found = call("doctor")
    assert found.code == 0
    assert "there is no schema holdfast" in found.out


def test_the_schema_may_be_made_beforehand(call: Call) -> None:
    assert "upgraded from schema 0" in call("db", "upgrade").out
    assert "is today's already" in call("db", "upgrade").out
    assert call("db", "status").code == 0


def test_runs_are_driven_and_shown(call: Call) -> None:
    assert call("run", "flows:greet", "--id", "r-1").code == 0
    assert call("run", "flows:fails").code == 1
    state = call("db", "status", "--json").document
    assert state["runs"] == {"completed": 1, "failed": 1}
    assert "r-1" in call("runs").out
    assert call("db", "check").out.startswith("✓ sound")
    found = {each["check"]: each for each in call("doctor", "--json").document}
    assert {each["status"] for each in found.values()} == {"ok"}
    assert "disk" not in found
    assert call("delete", "r-1").code == 0
