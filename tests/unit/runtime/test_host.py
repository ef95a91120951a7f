"""Where a worker lives, and how others on the machine know that it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.runtime import host
from holdfast.runtime.host import Host, LifeLock, forget, is_dead


@pytest.fixture
def lock() -> Iterator[LifeLock]:
    made = LifeLock(host.new_worker_id())
    yield made
    made.close()


def test_ids_are_unique_and_name_the_process() -> None:
    ids = {host.new_worker_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(f"-{os.getpid()}-" in each for each in ids)


def test_a_living_worker_is_not_dead(lock: LifeLock) -> None:
    assert lock.path.exists()
    # The lock of this very process: another open of the file meets it.
    assert not is_dead(str(lock.path))
    assert lock.path.exists()


def test_a_worker_that_closed_left_nothing_to_judge() -> None:
    lock = LifeLock(host.new_worker_id())
    lock.close()
    assert not lock.path.exists()
    assert not is_dead(str(lock.path))


def test_no_lock_is_no_proof() -> None:
    assert not is_dead("")
    assert not is_dead("/nowhere/at/all.lock")


def dead_lock() -> str:
    """The file of a process that was killed."""
    program = (
        "import time; from holdfast.runtime.host import LifeLock, new_worker_id;"
        "print(LifeLock(new_worker_id()).path, flush=True); lock = None; time.sleep(60)"
    )
    # The object must live as long as the process does.
    program = program.replace(
        "print(LifeLock(new_worker_id()).path", "lock = LifeLock(new_worker_id()); print(lock.path"
    )
    program = program.replace(" lock = None;", "")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        assert not is_dead(path), "it lives"
        process.send_signal(signal.SIGKILL)
    return path


def test_a_killed_worker_is_dead_until_its_file_is_forgotten() -> None:
    path = dead_lock()
    # Asked twice: who asks may die before it has acted upon the answer.
    assert is_dead(path)
    assert is_dead(path)
    forget(path)
    assert not Path(path).exists()
    assert not is_dead(path)
    forget(path)


def test_the_host_gives_what_the_functions_give(lock: LifeLock) -> None:
    here = Host()
    assert (here.name, here.pid, here.boot, here.namespace) == (
        host.hostname(),
        os.getpid(),
        host.boot_id(),
        host.namespace(),
    )
    assert here.boot
    assert not here.is_dead(str(lock.path))
    here.forget("/nowhere/at/all.lock")
