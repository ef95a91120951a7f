"""`holdfast worker` and `holdfast workers`: processes that serve, drain, die and are started again."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.calling import INTERRUPTS, Call, Process, began, effects, until

pytestmark = pytest.mark.usefixtures("each_store")


class News:
    """What a worker with `--json` told so far, read as it comes."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []

    def until(self, type_: str, **fields: Any) -> dict[str, Any]:
        """The next piece of that type with these fields."""
        assert self.process.popen.stdout is not None
        for line in self.process.popen.stdout:
            piece: dict[str, Any] = json.loads(line)
            self.told.append(piece)
            if piece["type"] == type_ and fields.items() <= piece.items():
                return piece
        raise AssertionError(f"it never told of {type_}: {self.told}")


@pytest.fixture
def serve(process: type[Process]) -> Any:
    """`serve("--queue", "gpu")`: a worker of the flows that tells its news."""

    def start(*words: str) -> News:
        return News(process("worker", "--app", "flows", "--json", *words))

    return start


def test_a_worker_drives_what_others_start_until_it_is_told_to_end(call: Call, serve: Any) -> None:
    news = serve("--concurrency", "3")
    started = news.until("worker.started")
    assert (started["queues"], started["concurrency"]) == (["default"], 3)
    assert "greet" in started["workflows"]
    call("run", "flows:greet", "--detach", "--id", "r-1")
    call("run", "flows:fails", "--detach", "--id", "r-2")
    assert news.until("run.taken")["workflow"] == "greet"
    assert news.until("run.completed")["run_id"] == "r-1"
    assert news.until("run.failed")["error"] == "the printer is on fire"
    (row,) = call("workers", "--json").document
    assert (row["id"], row["lease"], row["runs"]) == (started["worker"], "alive", 0)
    assert started["worker"] in call("workers").out
    news.process.send(signal.SIGTERM)
    news.until("worker.stopped")
    assert news.process.done().code == 0
    assert "No worker is there" in call("workers").out
    (row,) = call("workers", "--all", "--json").document
    assert row["lease"] == "stopped"


@pytest.mark.parametrize("number", INTERRUPTS, ids=lambda number: number.name)
def test_a_step_that_ends_within_the_grace_is_kept(call: Call, serve: Any, number: signal.Signals) -> None:
    news = serve()
    news.until("worker.started")
    call("run", "flows:slow", "--detach", "--id", "r-1")
    until(began("second"))
    news.process.send(number)
    assert news.until("worker.draining")["runs"] == 1
    Path("quick").touch()
    assert news.process.done().code == 0
    stages = call("stages", "r-1", "--json").document
    assert [(stage["name"], stage["status"], stage["attempt"]) for stage in stages] == [
        ("first", "completed", 1),
        ("second", "completed", 1),
    ]
    assert effects() == ["first", "second"]


def test_a_drain_leaves_what_does_not_end_to_the_next_worker(call: Call, serve: Any) -> None:
    news = serve("--grace", "0.1")
    news.until("worker.started")
    call("run", "flows:slow", "--detach", "--id", "r-1")
    until(began("second"))
    news.process.send(signal.SIGTERM)
    assert news.process.done().code == 0
    assert call("show", "r-1", "--json").document["status"] in ("running", "waiting", "pending")
    Path("quick").touch()
    following = serve()
    following.until("run.completed", run_id="r-1")
    assert effects() == ["first", "second", "second"]


def test_a_second_interrupt_ends_a_worker_at_once(call: Call, serve: Any) -> None:
    news = serve()
    news.until("worker.started")
    call("run", "flows:stubborn", "--detach", "--id", "r-1")
    until(began("second"))
    news.process.send(signal.SIGTERM)
    news.until("worker.draining")
    news.process.send(signal.SIGTERM)
    assert news.process.done(within=5).code == 130


def test_any_process_reaches_a_run_that_a_worker_drives(
    call: Call, process: type[Process], serve: Any
) -> None:
    news = serve()
    news.until("worker.started")
    call("run", "flows:slow", "--detach", "--id", "r-1")
    until(began("second"))
    following = process("events", "r-1", "--follow", "--json")
    call("signal", "r-1", "go", "7")
    call("pause", "r-1", "--reason", "lunch")
    assert news.until("run.paused")["reason"] == "lunch"
    call("resume", "r-1", "--detach")
    news.until("run.resumed")
    call("cancel", "r-1", "--reason", "enough")
    news.until("run.cancelled", run_id="r-1")
    seen = [line["type"] for line in following.done().lines]
    wanted = ["signal", "run.paused", "run.resumed", "run.cancelled"]
    assert [type_ for type_ in seen if type_ in wanted] == wanted
    assert effects() == ["first", "second"], "the worker that had the run has it still"


def test_a_queue_waits_for_the_worker_that_serves_it(call: Call, serve: Any) -> None:
    plain = serve()
    plain.until("worker.started")
    call("run", "flows:greet", "--detach", "--id", "r-gpu", "--queue", "gpu")
    call("run", "flows:greet", "--detach", "--id", "r-plain")
    plain.until("run.completed", run_id="r-plain")
    assert call("show", "r-gpu", "--json").document["status"] == "pending"
    serve("--queue", "gpu,cpu").until("run.completed", run_id="r-gpu")


def test_a_module_may_bring_an_engine(call: Call, process: type[Process]) -> None:
    Path("brought.py").write_text(
        "from holdfast import Engine\nimport flows\n"
        'engine = Engine("sqlite:///brought.db", queues=["gpu"], concurrency=7, runtime=flows.runtime)\n'
    )
    news = News(process("worker", "--app", "brought:engine", "--json"))
    started = news.until("worker.started")
    assert (started["queues"], started["concurrency"]) == (["gpu"], 7)
    assert started["store"].endswith("brought.db")


def test_people_read_lines(call: Call, process: type[Process]) -> None:
    running = process("worker", "--app", "flows")
    assert running.popen.stdout is not None
    lines = iter(running.popen.stdout)
    assert next(lines).startswith(("store      sqlite:///", "store      postgresql://"))
    assert "serving as" in next(line for line in lines if "serving" in line)
    call("run", "flows:greet", "--detach", "--id", "r-1")
    assert next(lines).endswith("· r-1  greet  taken\n")
    assert "✓ r-1  greet  completed in" in next(lines)
    running.send(signal.SIGINT)
    done = running.done()
    assert done.code == 0
    assert done.out.splitlines()[-1].endswith("stopped: what has not ended stays for other workers")


# --- several processes


def pids(news: News, count: int) -> dict[int, int]:
    """The pids of so many processes by their numbers, as they begin to serve."""
    started = [news.until("worker.started") for _ in range(count)]
    return {piece["process"]: piece["pid"] for piece in started}


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2].startswith("Z")  # nobody buries it here


def test_a_process_that_dies_is_started_again_and_all_drain_together(call: Call, serve: Any) -> None:
    news = serve("--processes", "2")
    first = pids(news, 2)
    os.kill(first[2], signal.SIGKILL)
    ended = news.until("process.ended")
    assert (ended["process"], ended["pid"], ended["how"], ended["wait"]) == (2, first[2], "SIGKILL", 0.5)
    again = news.until("worker.started")
    assert again["process"] == 2
    call("run", "flows:greet", "--detach", "--id", "r-1")
    news.until("run.completed", run_id="r-1")
    news.process.send(signal.SIGTERM)
    assert news.process.done().code == 0
    assert is_gone(first[1])
    assert is_gone(again["pid"])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_no_process_survives_its_parent(serve: Any) -> None:
    news = serve("--processes", "2")
    started = pids(news, 2)
    news.process.kill()
    for pid in started.values():
        until(partial(is_gone, pid))


def test_what_no_start_can_mend_ends_all(process: type[Process]) -> None:
    done = process("worker", "--app", "nowhere", "--processes", "3").done()
    assert done.code == 3
    assert done.err.count("there is no module 'nowhere'") == 1


# --- wrong use


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--processes", "0"], "--processes 0"),
        (["--concurrency", "-1"], "--concurrency -1"),
        (["--concurrency", "many"], "invalid int value: 'many'"),
        (["--grace", "soon"], "--grace 'soon' is no duration"),
        (["--queue", ""], "--queue '' names no queue"),
        (["--queue", "gpu,,cpu"], "names no queue"),
        (["--queue", " gpu"], "names no queue"),
        (["--url", "sqlite:///:memory:"], "in the memory of one process"),
    ],
)
def test_wrong_options_are_named(call: Call, words: list[str], says: str) -> None:
    done = call("worker", "--app", "flows", "--json", *words)
    assert done.code == 2
    assert says in done.error["message"]
    assert done.error["fix"]


def test_a_module_without_workflows_is_refused(process: type[Process]) -> None:
    Path("empty.py").touch()
    done = process("worker", "--app", "empty").done()
    assert done.code == 2
    assert "empty registers no workflow" in done.err
    done = process("worker", "--app", "flows:not_a_workflow").done()
    assert (done.code, "is no workflow" in done.err) == (2, True)
