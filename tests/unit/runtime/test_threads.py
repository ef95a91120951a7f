"""Threads for plain steps: they start at once, are used again, and keep nothing alive."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from holdfast.runtime.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads("test")
    yield made
    made.close()


def run(threads: Threads, *jobs: threading.Barrier | None) -> list[str]:
    """Run jobs, each at its barrier, and return the names of the threads that did."""
    names: list[str] = []
    done = threading.Semaphore(0)

    def job(barrier: threading.Barrier | None) -> None:
        if barrier is not None:
            barrier.wait(10)
        names.append(threading.current_thread().name)
        done.release()

    for barrier in jobs:
        threads.run(lambda barrier=barrier: job(barrier))  # type: ignore[misc]
    for _ in jobs:
        assert done.acquire(timeout=10)
    return names


def test_all_run_at_once(threads: Threads) -> None:
    barrier = threading.Barrier(5)
    assert len(set(run(threads, *[barrier] * 5))) == 5


def test_an_idle_thread_is_used_again(threads: Threads) -> None:
    first = run(threads, None)
    # It puts itself back after the job; a new one may be made before it has.
    assert any(run(threads, None) == first for _ in range(100))


def test_they_are_daemons_with_a_name(threads: Threads) -> None:
    seen: list[threading.Thread] = []
    done = threading.Event()

    def job() -> None:
        seen.append(threading.current_thread())
        done.set()

    threads.run(job)
    assert done.wait(10)
    assert seen[0].daemon
    assert seen[0].name.startswith("test-")


def test_a_job_sees_the_variables_of_its_caller_and_cannot_change_them(threads: Threads) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("mine")
    seen: list[str] = []
    done = threading.Event()

    def job() -> None:
        seen.append(variable.get())
        variable.set("theirs")
        done.set()

    threads.run(job)
    assert done.wait(10)
    assert seen == ["mine"]
    assert variable.get() == "mine"


def test_an_idle_thread_keeps_no_values_alive(threads: Threads) -> None:
    class Value:
        pass

    value = Value()
    reference = weakref.ref(value)
    done = threading.Event()

    def job(held: Value = value) -> None:
        done.set()

    threads.run(job)
    assert done.wait(10)
    del value, job
    run(threads, None)  # the thread, or another one, has been through its loop since
    for _ in range(1000):
        if reference() is None:
            break
        run(threads, None)
    assert reference() is None


def test_closing_ends_idle_threads() -> None:
    threads = Threads("closing")
    run(threads, threading.Barrier(1))
    for _ in range(1000):
        threads.close()
        if not [one for one in threading.enumerate() if one.name.startswith("closing-")]:
            break
        threading.Event().wait(0.001)
    assert [one.name for one in threading.enumerate() if one.name.startswith("closing-")] == []


def test_an_abandoned_job_does_not_keep_the_process() -> None:
    program = (
        "import threading; from holdfast.runtime.threads import Threads; begun = threading.Event();"
        "Threads('x').run(lambda: (begun.set(), threading.Event().wait(60))); begun.wait()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
