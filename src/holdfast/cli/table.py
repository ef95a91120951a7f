"""The command line's grammar: one table of commands, read by the parser, by `--help` and by who dispatches.

Nothing here imports a command: `holdfast --help` must be quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from holdfast.cli import remedies
from holdfast.cli.remedies import Add


class Command(NamedTuple):
    """A command: its name and what follows it, where its function is, what it does, its arguments, how it is used."""

    usage: str
    handler: str
    summary: str
    arguments: Callable[[Add], None]
    examples: Sequence[str]
    about: str = ""

    @property
    def name(self) -> str:
        """The command's word."""
        return self.usage.partition(" ")[0]


# --- arguments


def _workflow(add: Add) -> None:
    add(
        "workflow",
        metavar="MODULE:WORKFLOW",
        help="a dotted module or a path/to/file.py, and a workflow in it",
    )
    _params(add)


def _params(add: Add) -> None:
    add(
        "--param",
        metavar="K=V",
        action="append",
        default=[],
        help="a param; V is JSON if it parses, else text",
    )
    add("--params", metavar="JSON|@FILE", help="all params as a JSON object")


def _secret(add: Add) -> None:
    add(
        "--secret",
        metavar="NAME=@FILE|$ENV",
        action="append",
        default=[],
        help="a secret from a file or a variable, never in clear; it is not stored",
    )


def _grace(add: Add) -> None:
    add("--grace", metavar="DURATION", help="how long running steps may take to end after Ctrl-C (3s)")


def _run(add: Add) -> None:
    _workflow(add)
    add("--id", help="the run's id; the same id and params again give the same run")
    add("--profile", help="settings of the stages, kept with save_profile")
    _secret(add)
    add("--detach", action="store_true", help="start and return; a worker drives the run")
    _grace(add)
    add("--queue", help="the queue of its job")
    add("--priority", type=int, help="the larger goes first")
    add("--tag", action="append", default=[], help="a tag to find it by; may be repeated")
    add("--timeout", metavar="DURATION", help="how long the run may take: 90, 15m, 2h")


def _of_run(add: Add) -> None:
    add("run", metavar="RUN", help="a run's id, or the beginning of one (4 characters or more)")


def _app(add: Add, why: str) -> None:
    add("--app", metavar="MODULE[:NAME]", help=f"the module that has the workflow: {why}")


def _resume(add: Add) -> None:
    _of_run(add)
    _app(add, "drive the run here, with live progress, until it ends")
    _secret(add)
    add("--detach", action="store_true", help="leave it to a worker, also with --app")
    _grace(add)


def _runs(add: Add) -> None:
    add("--workflow", metavar="NAME", help="only runs of this workflow")
    add("--status", action="append", default=[], help="only of this status; several with commas")
    add("--tag", action="append", default=[], help="only with this tag; may be repeated")
    add("--since", metavar="TIME", help="only started since: 2h, 7d, 2026-11-20")
    add("--until", metavar="TIME", help="only started before")
    add("--limit", type=int, default=20, help="runs on a page (20)")
    add("--after", metavar="CURSOR", help="the page after this one")
    add("--oldest-first", action="store_true", help="the oldest first")
    add("--full-ids", action="store_true", help="do not shorten ids, on a terminal either")


def _events(add: Add) -> None:
    _of_run(add)
    add("--follow", "-f", action="store_true", help="go on as they happen, until the run ends")
    add("--after", metavar="N", type=int, default=0, help="only events after this position")
    add(
        "--type", metavar="TYPE", action="append", default=[], help="only of this type: stage.failed, stage.*"
    )


def _interrupts(add: Add) -> None:
    add("--workflow", metavar="NAME", help="only of runs of this workflow")


def _fork(add: Add) -> None:
    _of_run(add)
    add("--at", metavar="N", type=int, help="the position to begin from, as `journal` shows it (the end)")
    add(
        "--set",
        metavar="K=V",
        action="append",
        default=[],
        help="a key of the state to set there; V is JSON if it parses, else text; needs --app",
    )
    _app(add, "only for --set")


def _rerun(add: Add) -> None:
    _of_run(add)
    add("task", metavar="TASK", help="the first task to run anew")
    add("--item", metavar="N", type=int, help="only this item of a map, counted from 0, and what comes after")
    _app(add, "the workflow of the run")


def _clear(add: Add) -> None:
    _rerun(add)
    add("--alone", action="store_true", help="leave what comes after the task as it is")


def _gantt(add: Add) -> None:
    _of_run(add)
    add("--width", metavar="N", type=int, default=60, help="columns of the bars (60)")
    _app(add, "tell the critical path of a DAG, too")


def _diff(add: Add) -> None:
    _of_run(add)
    add("other", metavar="OTHER", help="the other run")
    _app(add, "compare the states, too")


def _result(add: Add) -> None:
    _of_run(add)
    add("--wait", action="store_true", help="wait for the run's end")
    add("--timeout", metavar="DURATION", help="wait, at most so long: 90, 15m, 2h")


def _stages(add: Add) -> None:
    _of_run(add)
    add("--inputs", action="store_true", help="with what each stage was given; needs --app")
    _app(add, "only for --inputs")


def _signal(add: Add) -> None:
    _of_run(add)
    add("name", metavar="NAME", help="the signal's name")
    add("value", metavar="JSON", nargs="?", help="its value; text that is no JSON is taken as it is")
    add("--key", help="the same key again changes nothing")


def _reason(add: Add) -> None:
    _of_run(add)
    add("--reason", default="", help="why, for the record")


def _graph(add: Add) -> None:
    _workflow(add)
    add(
        "--format",
        choices=("mermaid", "dot", "svg", "ascii"),
        default="mermaid",
        help="mermaid (default), dot, svg or ascii",
    )
    add("--run", metavar="RUN", help="lay the path of this run over it: counts, durations, failures")


def _delete(add: Add) -> None:
    add("run", metavar="RUN", help="the run's whole id")


def _workflows(add: Add) -> None:
    _app(add, "list those it registers")


def _profiles(add: Add) -> None:
    add("workflow", metavar="WORKFLOW", help="the workflow's name")
    add("--save", metavar="NAME", help="keep the settings of --stages under this name")
    add(
        "--stages",
        metavar="JSON|@FILE",
        help='by stage: {"detect": {"prompt": "Look.", "options": {"n": 3}}}',
    )
    add("--delete", metavar="NAME", help="forget this one; runs keep what it said when they were started")
    _app(add, "needed to save, unless a worker knows the workflow")


def _worker(add: Add) -> None:
    add(
        "--app",
        metavar="MODULE[:ENGINE]",
        required=True,
        help="the module whose workflows are served; an engine in it also says the store, secrets and observers",
    )
    add(
        "--queue",
        metavar="Q",
        action="append",
        default=[],
        help="a queue to serve; may be repeated (default)",
    )
    add("--concurrency", metavar="N", type=int, help="runs at once in each process (100)")
    add(
        "--processes",
        metavar="N",
        type=int,
        default=1,
        help="so many processes, started again when they die (1)",
    )
    add("--grace", metavar="DURATION", help="how long running steps may take to end when it drains (30s)")


def _workers(add: Add) -> None:
    add("--all", action="store_true", help="also those that have stopped")


def _db(add: Add) -> None:
    add("action", choices=("status", "check", "upgrade"), help="what to do")


def _nothing(_: Add) -> None:
    pass


def _demo(add: Add) -> None:
    add("--seconds", type=float, default=10.0, help="about how long it takes (10)")


COMMANDS: Final[dict[str, Sequence[Command]]] = {
    "start here": (
        Command(
            "demo",
            "demo:demo",
            "ten seconds: a run, SIGKILL before your eyes, resumed, its stages",
            _demo,
            ["demo"],
        ),
    ),
    "runs": (
        Command(
            "run MODULE:WORKFLOW [--param K=V]...",
            "running:run",
            "start a run, live progress, then the result",
            _run,
            [
                "run shop.flows:checkout --param order=7 --param express=true",
                "run flows.py:checkout --params @order.json --id order-7",
                "run flows.py:checkout --secret token=@token.txt --secret 'key=$API_KEY'",
                "run flows.py:checkout --json | jq .type",
            ],
            "Ctrl-C leaves the run as it is, ready to be resumed, and says how. A module may hold `runtime`, a Runtime "
            "with the services of its workflows, or `engine`, an Engine that also says which store to use.",
        ),
        Command(
            "resume RUN [--app MODULE]",
            "running:resume",
            "go on with a run: paused, failed, cancelled, or left behind",
            _resume,
            ["resume 3f2a9c1b --app shop.flows", "resume order-7"],
            "What is finished is not run again.",
        ),
        Command(
            "cancel RUN",
            "acting:cancel",
            "ask a run to end",
            _reason,
            ["cancel order-7 --reason 'out of stock'"],
        ),
        Command("pause RUN", "acting:pause", "let nothing new start in a run", _reason, ["pause order-7"]),
        Command(
            "signal RUN NAME [JSON]",
            "acting:signal",
            "send a run a named value",
            _signal,
            ["""signal order-7 approved '{"by": "ada"}'""", "signal order-7 approved true"],
        ),
        Command(
            "fork RUN [--at N]",
            "travel:fork",
            "start a run that begins as another did",
            _fork,
            ["fork order-7 --at 12", "fork order-7 --at 12 --set cents=700 --app shop.flows"],
            "What had finished by then is not run again; the run that is forked stays as it is.",
        ),
        Command(
            "rerun RUN TASK --app MODULE",
            "travel:rerun",
            "start a run that keeps what was before a task",
            _rerun,
            ["rerun etl-7 clean --app shop.etl", "rerun etl-7 resize --item 3 --app shop.etl"],
            "The task and all that comes after it are run anew; the run itself stays as it is.",
        ),
        Command(
            "clear RUN TASK --app MODULE",
            "travel:clear",
            "resume a run with a task run anew",
            _clear,
            ["clear etl-7 clean --app shop.etl", "clear etl-7 clean --alone --app shop.etl"],
            "For a failed, cancelled or paused run. All else that finished stays.",
        ),
        Command(
            "dead-letters [ACTION] [RUN]...",
            "letters:letters",
            "runs that failed for good: list, show, redrive, discard",
            remedies.letters,
            [
                "dead-letters",
                "dead-letters show order-7",
                "dead-letters redrive --all --code step_timed_out --rate 5",
            ],
        ),
        Command(
            "breakers [ACTION] [NAME]...",
            "breakers:breakers",
            "circuit breakers: list, open, disable, close",
            remedies.breakers,
            ["breakers", "breakers open payments", "breakers close payments"],
        ),
        Command(
            "cache [ACTION]",
            "cache:cache",
            "results that steps take instead of running: list, clear",
            remedies.cache,
            ["cache --workflow etl", "cache clear --workflow etl --step fetch"],
        ),
        Command(
            "delete RUN",
            "acting:delete",
            "delete an ended run",
            _delete,
            ["delete order-7"],
        ),
    ),
    "look": (
        Command(
            "runs",
            "listing:runs",
            "list the runs",
            _runs,
            ["runs --status failed,paused", "runs --workflow checkout --since 2h --limit 100"],
        ),
        Command("show RUN", "reading:show", "everything of a run on one page", _of_run, ["show order-7"]),
        Command(
            "events RUN [--follow]",
            "reading:events",
            "what happened in a run, in order",
            _events,
            ["events order-7 --follow", "events order-7 --type 'stage.*' --after 120"],
        ),
        Command(
            "result RUN [--wait]",
            "reading:result",
            "a run's result",
            _result,
            ["result order-7", "result order-7 --wait --json"],
        ),
        Command(
            "stages RUN",
            "reading:stages",
            "its stages: status, attempts, duration, worker, output",
            _stages,
            ["stages order-7", "stages order-7 --inputs --app shop.flows --json"],
        ),
        Command(
            "decisions RUN",
            "reading:decisions",
            "every edge it tried, with the reason",
            _of_run,
            ["decisions order-7"],
        ),
        Command(
            "diff RUN OTHER",
            "travel:diff",
            "how two runs differ",
            _diff,
            ["diff order-7 01a3185d0fa6 --app shop.flows"],
        ),
        Command(
            "interrupts",
            "travel:interrupts",
            "what runs ask, and nobody has answered",
            _interrupts,
            ["interrupts", "interrupts --workflow checkout --json"],
        ),
        Command("journal RUN", "reading:journal", "its journal, fact by fact", _of_run, ["journal order-7"]),
        Command(
            "workflows [--app MODULE]",
            "listing:workflows",
            "the workflows that can be started",
            _workflows,
            ["workflows --app shop.flows", "workflows"],
        ),
        Command(
            "profiles WORKFLOW",
            "profiles:profiles",
            "the profiles of a workflow: named settings of its stages",
            _profiles,
            [
                "profiles scans",
                "profiles scans --save gentle --stages @gentle.json --app shop.flows",
                "profiles scans --delete gentle",
            ],
        ),
        Command(
            "gantt RUN",
            "drawing:gantt",
            "when each of its stages ran",
            _gantt,
            ["gantt etl-7", "gantt etl-7 --app shop.etl"],
            "With --app, of a DAG also its critical path, and where more parallelism would save time.",
        ),
        Command(
            "graph MODULE:WORKFLOW",
            "drawing:graph",
            "a workflow's picture",
            _graph,
            [
                "graph flows.py:checkout --format ascii",
                "graph flows.py:checkout --run order-7 --format svg > order-7.svg",
            ],
        ),
    ),
    "workers": (
        Command(
            "worker --app MODULE[:ENGINE]",
            "working:worker",
            "claim runs and drive them, until it is told to end",
            _worker,
            [
                "worker --app shop.flows",
                "worker --app shop.flows:engine --queue gpu --concurrency 4",
                "worker --app shop.flows --processes 4 --grace 25s",
            ],
            "Ctrl-C or SIGTERM drains: nothing more is claimed, running steps get the grace, and unfinished runs stay "
            "for other workers. A second one ends it at once.",
        ),
        Command(
            "workers [--all]",
            "listing:workers",
            "the workers: what they serve, what they hold, whether they live",
            _workers,
            ["workers", "workers --all --json"],
        ),
    ),
    "database": (
        Command(
            "db status|check|upgrade",
            "database:db",
            "its state, its soundness, its schema",
            _db,
            ["db status", "db check", "db upgrade"],
        ),
        Command(
            "doctor",
            "doctor:doctor",
            "look for what is wrong, and say what to do",
            _nothing,
            ["doctor"],
        ),
    ),
}
"""All commands, in groups."""


def handler_of(name: str) -> str:
    """Return `module:function` of a command."""
    return next(command.handler for group in COMMANDS.values() for command in group if command.name == name)
