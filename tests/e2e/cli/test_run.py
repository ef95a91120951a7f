"""`holdfast run`: what is started, what is shown, how it ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.cli.marks import TIMES
from tests.e2e.cli.calling import Call, effects

pytestmark = pytest.mark.usefixtures("each_store")


def test_the_first_line_tells_the_run_and_the_last_its_result(call: Call) -> None:
    done = call("run", "flows:greet", "--param", "name=Ada", "--id", "r-1")
    assert done.code == 0
    assert done.out.splitlines()[0] == "run r-1"
    assert re.search(r"✓ say completed  \S+s", done.out)
    assert "completed in" in done.out
    assert done.last_line == '{"name": "Ada", "said": "hello Ada"}'
    assert done.err == ""


@pytest.mark.parametrize("name", ["flows:greet", "flows.py:greet", "./flows.py:greet"])
def test_a_module_is_a_dotted_name_or_a_file(call: Call, name: str) -> None:
    assert call("run", name).code == 0


@pytest.mark.parametrize("name", ["greet", "pipeline", "reel", "film", "called_so", "named-so"])
def test_a_workflow_is_a_registered_name_or_an_attribute(call: Call, name: str) -> None:
    assert call("run", f"flows:{name}").code == 0


def test_a_file_in_a_package_may_import_its_neighbours(call: Call, folder: Path) -> None:
    package = folder / "deep" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "names.py").write_text("NODE = 'one'")
    (package / "shopflows.py").write_text(
        "from holdfast import END, START, StateGraph\nfrom .names import NODE\n"
        "sell = StateGraph('sell').add_node(NODE, lambda s: {}).add_edge(START, NODE).add_edge(NODE, END)\n"
    )
    assert call("run", "deep/shop/shopflows.py:sell").code == 0


def test_a_file_may_have_the_name_of_another_module(call: Call, folder: Path) -> None:
    (folder / "json.py").write_text("from flows import greet, runtime\n")
    assert call("run", "json.py:greet", "--json").lines[-1]["type"] == "run.completed"


def test_a_module_with_one_workflow_needs_no_name(call: Call, folder: Path) -> None:
    (folder / "single.py").write_text(
        "from holdfast import END, START, StateGraph\n"
        "only = StateGraph().add_node('a', lambda s: {}).add_edge(START, 'a').add_edge('a', END)\n"
    )
    assert call("run", "single.py").code == 0


@pytest.mark.parametrize(
    ("words", "params"),
    [
        (["--param", "pages=3"], {"pages": 3}),
        (["--param", "pages=3", "--param", "title=War and Peace"], {"pages": 3, "title": "War and Peace"}),
        (["--param", 'title="4"', "--param", "pages=3"], {"pages": 3, "title": "4"}),
        (["--params", '{"pages": 2, "title": "a=b"}'], {"pages": 2, "title": "a=b"}),
        (["--params", '{"pages": 2}', "--param", "pages=5"], {"pages": 5}),
        (["--params", "@params.json"], {"pages": 9}),
    ],
)
def test_params_are_json_or_text(
    call: Call, folder: Path, words: list[str], params: dict[str, object]
) -> None:
    (folder / "params.json").write_text('{"pages": 9}')
    assert call("run", "flows:order", *words, "--id", "r-1").code == 0
    assert call("show", "r-1", "--json").document["params"] == params


def test_json_lines_are_the_events_and_a_node_that_prints_does_not_mix_with_them(call: Call) -> None:
    done = call("run", "flows:order", "--param", "pages=3", "--json")
    assert done.code == 0
    types = [line["type"] for line in done.lines]
    assert types[0] == "run.started"
    assert types[-1] == "run.completed"
    assert done.lines[-1]["data"]["result"] == {"pages": 3, "twice": 6}
    assert {"run_id", "position", "type", "at", "data"} == set(done.lines[0])
    assert done.err == "a node prints\n"


def test_a_run_that_fails_says_why_and_how_to_go_on(call: Call) -> None:
    done = call("run", "flows:fails", "--id", "r-1")
    assert done.code == 1
    assert "✗ second failed" in done.out
    assert done.err.splitlines() == [
        "error: run 'r-1' failed at second: RuntimeError: the printer is on fire",
        "fix: Mend the cause, then go on from there: holdfast resume r-1 --app flows",
    ]


def test_a_failure_with_json_is_json(call: Call) -> None:
    done = call("run", "flows:fails", "--json")
    assert done.code == 1
    assert done.lines[-1]["type"] == "run.failed"
    assert done.error["code"] == "run_failed"
    assert "holdfast resume" in done.error["fix"]


def test_a_factory_that_raises_fails_the_run_which_can_be_resumed(call: Call) -> None:
    done = call("run", "flows:picky", "--id", "r-1")
    assert done.code == 1
    assert "LookupError: no such document" in done.err
    assert call("show", "r-1", "--json").document["status"] == "failed"


def test_a_retry_is_shown(call: Call) -> None:
    done = call("run", "flows:flaky")
    assert done.code == 1
    assert re.search(r"↻ second  attempt 2 at \d\d:\d\d:\d\d  RuntimeError: the printer is on fire", done.out)


def test_the_same_id_is_the_same_run(call: Call) -> None:
    words = ("run", "flows:slow", "--param", "seconds=0", "--id", "r-1")
    assert call(*words).code == 0
    again = call(*words)
    assert again.code == 0
    assert again.last_line == '{"seconds": 0, "first": true, "second": true}'
    assert effects() == ["first", "second"]
    other = call("run", "flows:slow", "--param", "seconds=1", "--id", "r-1")
    assert other.code == 2
    assert "exists already" in other.err


def test_a_thousand_items_are_few_lines(call: Call) -> None:
    """Those that come within a moment share one; how many moments it takes is the machine's affair."""
    done = call("run", "flows:wide", "--param", "n=1000")
    assert done.code == 0
    assert len(done.out.splitlines()) < 100
    told = re.findall(rf"item(?: #\d+| {TIMES}([\d,]+))? scheduled", done.out)
    assert sum(int(times.replace(",", "")) if times else 1 for times in told) == 1000
    assert "→ sum  default: no other edge held  ↛ never  negative, did not hold" in done.out


def test_a_run_may_be_tagged_and_put_before_others(call: Call) -> None:
    assert (
        call("run", "flows:greet", "--tag", "red", "--tag", "blue", "--priority", "7", "--id", "r-1").code
        == 0
    )
    run = call("show", "r-1", "--json").document
    assert (run["tags"], run["priority"], run["queue"]) == (["red", "blue"], 7, "default")


def test_a_run_that_takes_too_long_fails(call: Call) -> None:
    done = call("run", "flows:slow", "--timeout", "0.3", "--json")
    assert done.code == 1
    assert done.error["code"] == "run_timed_out"


def test_a_detached_run_waits_for_a_worker(call: Call) -> None:
    done = call("run", "flows:greet", "--detach", "--id", "r-1")
    assert done.code == 0
    assert done.out.splitlines()[0] == "run r-1  pending"
    assert "holdfast resume r-1 --app flows" in done.last_line
    assert call("run", "flows:greet", "--detach", "--json").document["status"] == "pending"
    assert call("result", "r-1").code == 2
    assert call("resume", "r-1", "--app", "flows").code == 0
    assert call("result", "r-1", "--json").document == {"name": "you", "said": "hello you"}


def test_a_run_leaves_those_of_others_alone(call: Call) -> None:
    assert call("run", "flows:slow", "--detach", "--id", "other").code == 0
    assert call("run", "flows:greet", "--id", "mine").code == 0
    assert call("run", "flows:slow", "--param", "seconds=0", "--id", "mine-too").code == 0
    assert call("show", "other", "--json").document["status"] == "pending"
    assert effects() == ["first", "second"]


def test_an_engine_in_the_module_says_where_runs_are_kept(call: Call, folder: Path) -> None:
    (folder / "app.py").write_text(
        "from holdfast import Engine, Runtime\nfrom flows import *\n"
        "engine = Engine('sqlite:///app.db', runtime=Runtime(greeting='ahoy'), observers=())\n"
    )
    done = call("run", "app:greet", "--json")
    assert done.lines[-1]["data"]["result"]["said"] == "ahoy you"
    assert (folder / "app.db").exists()
    assert not (folder / "holdfast.db").exists()
    assert call("run", "app:greet", "--url", "sqlite:///given.db").code == 0
    assert (folder / "given.db").exists()


def test_the_store_is_the_option_or_the_variable(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_URL", "sqlite:///variable.db")
    assert call("run", "flows:greet").code == 0
    assert call("--url", "sqlite:///option.db", "run", "flows:greet").code == 0
    assert sorted(path.name for path in folder.glob("*.db")) == ["option.db", "variable.db"]


# --- secrets


def test_a_secret_comes_from_a_file_or_a_variable(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "token.txt").write_text("t0p-secret\n")
    monkeypatch.setenv("TOKEN", "four")
    from_file = call("run", "flows:whispers", "--secret", "token=@token.txt", "--json")
    assert from_file.lines[-1]["data"]["result"]["length"] == len("t0p-secret")
    from_variable = call("run", "flows:whispers", "--secret", "token=$TOKEN", "--json")
    assert from_variable.lines[-1]["data"]["result"]["length"] == len("four")
    kept = b"".join(path.read_bytes() for path in folder.glob("holdfast.db*"))
    assert b"t0p-secret" not in kept
    assert b"t0p-secret" not in from_file.out.encode()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("token=hunter2", "is given in clear"),
        ("hunter2", "is not NAME=@file or NAME=$ENV"),
        ("token=@missing.txt", "missing.txt cannot be read"),
        ("token=$NO_SUCH_VARIABLE", "$NO_SUCH_VARIABLE is not set"),
    ],
)
def test_a_secret_in_clear_is_refused_and_not_repeated(call: Call, given: str, says: str) -> None:
    done = call("run", "flows:whispers", "--secret", given)
    assert done.code == 2
    assert says in done.err
    assert "hunter2" not in done.out + done.err
    assert not Path("holdfast.db").exists()


def test_a_secret_cannot_be_left_to_a_worker(call: Call, folder: Path) -> None:
    (folder / "token.txt").write_text("t0p")
    done = call("run", "flows:whispers", "--secret", "token=@token.txt", "--detach")
    assert done.code == 2
    assert "--detach" in done.err


def test_a_run_of_another_queue_is_driven_here_too(call: Call) -> None:
    done = call("run", "flows:greet", "--param", "name=Ada", "--queue", "gpu", "--id", "r-1")
    assert done.code == 0
    assert call("show", "r-1", "--json").document["queue"] == "gpu"
