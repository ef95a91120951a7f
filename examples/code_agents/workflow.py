"""The DAG ``code-agents``: analyze, refactor, test, review by agents; what they write is run before it is believed.

The tests are written from the old code, beside the refactoring, and run against both. The answers are in the run: an
agent that fails is asked again, the others are not.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Final, TypedDict

from examples.commands import CommandFailed, run
from holdfast import DAGWorkflow, RetryPolicy, Task, register
from holdfast.agents import Agent, AgentUnavailable, register_agent

NAME: Final = "code-agents"
INSTRUCTIONS: Final = {
    "analyze": "Say in at most five lines what is wrong with the shape of this Python module. Do not rewrite it.",
    "refactor": "Rewrite the module as the analysis says. Names, parameters and results of its functions stay. Answer "
    "with the whole module in one fenced block.",
    "test": "Write unittest tests of what the module does today, as a module that imports it as `subject`. Answer with "
    "the whole test module in one fenced block.",
    "review": "The tests were run against the old and the new module, see `check`. Answer APPROVE if the new one is "
    "better and does the same, else REJECT; then why, in one sentence.",
}
_PATIENT: Final = RetryPolicy(attempts=5, backoff=2.0, retry_on=(AgentUnavailable,))
_BLOCK: Final = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)


class Report(TypedDict):
    """What the tests said of the old and of the new module; empty where they passed."""

    before: str
    after: str


class Rejected(Exception):
    """The tests or the reviewer are against the new code."""


def code_in(answer: str) -> str:
    """Returns the first fenced block of an answer, else all of it."""
    found = _BLOCK.search(answer)
    return found[1] if found else answer


async def check(source: str, refactor: str, test: str) -> Report:
    """Runs the tests against the old and the new module, each in a process and a folder of its own."""
    tests = code_in(test)
    return {"before": await complaints(source, tests), "after": await complaints(code_in(refactor), tests)}


async def complaints(module: str, tests: str) -> str:
    """Returns what the tests say against a module; nothing when all pass."""
    with tempfile.TemporaryDirectory(prefix="code-agents-") as name:
        folder = Path(name)
        (folder / "subject.py").write_text(module, "utf-8")
        (folder / "test_subject.py").write_text(tests, "utf-8")
        try:
            said = await run(sys.executable, "-m", "unittest", "test_subject.py", folder=folder)
        except CommandFailed as error:
            return str(error)
    return "there is no test" if "Ran 0 tests" in said else ""  # before Python 3.12 that is no failure


def accept(refactor: str, check: Report, review: str) -> str:
    """Returns the new module if the tests pass and the reviewer agrees; the tests have the first word."""
    if check["before"]:
        raise Rejected(f"the tests do not pass on the old code: {check['before']}")
    if check["after"]:
        raise Rejected(f"the new code does something else: {check['after']}")
    if not review.strip().startswith("APPROVE"):
        raise Rejected(review)
    return code_in(refactor)


def asks(task: str, *depends_on: str) -> Task:
    """Returns a task that asks the agent registered for it."""
    return Task(
        task, agent=f"code-{task}", instructions=INSTRUCTIONS[task], depends_on=depends_on, retry=_PATIENT
    )


dag = DAGWorkflow(
    [
        asks("analyze"),
        asks("refactor", "analyze"),
        asks("test"),
        Task("check", check, depends_on=["refactor", "test"], timeout=60),
        asks("review", "analyze", "refactor", "check"),
        Task("accept", accept, depends_on=["refactor", "check", "review"]),
    ],
)
register(NAME, dag, "analyzes, refactors, tests and reviews a module", replace=True)


def employ(agent: Agent) -> None:
    """Registers one agent for all tasks; each could have its own."""
    for task in INSTRUCTIONS:
        register_agent(f"code-{task}", agent, replace=True)
