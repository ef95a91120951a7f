"""Runs one page of the documentation the way its reader would: `python tests/docs/pages.py docs/tutorial.md`.

- ```python blocks run from top to bottom in one namespace; `await` may stand at their top level.
- A block that begins with a comment naming a file (`# orders.py`) is that module: it is saved, and what follows
  may import it.
- In ```bash and ```console blocks the lines `$ holdfast ...` run and must succeed. Lines below a command are what it
  prints; `...` stands for anything.
- A block inside an HTML comment runs too: set-up that the reader need not see.
"""

from __future__ import annotations

import asyncio
import doctest
import inspect
import re
import subprocess
import sys
import textwrap
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT
from types import ModuleType

FENCED = re.compile(
    r"^[ \t]*(?P<fence>`{3,})(?P<language>\w+)[^\n]*\n(?P<text>.*?)^[ \t]*(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"# (?P<name>\w+)\.py\n")
SHELLS = {"bash", "console"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text and the line of the page on which that text begins."""

    language: str
    text: str
    line: int

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each `holdfast` command line of a shell block with the text below it."""
        if self.language not in SHELLS:
            return []
        after_prompts = re.split(r"^\$ ", self.text.replace("\\\n", ""), flags=re.MULTILINE)[1:]
        lines = [text.partition("\n") for text in after_prompts]
        return [(command, printed) for command, _, printed in lines if command.split()[:1] == ["holdfast"]]


def blocks(page: Path) -> list[Block]:
    """The page's blocks that can be run, in order."""
    content = page.read_text("utf-8")
    found = []
    for match in FENCED.finditer(content):
        line = content.count("\n", 0, match.start("text")) + 1
        found.append(Block(match["language"], textwrap.dedent(match["text"]), line))
    return [block for block in found if block.language == "python" or block.commands]


def run_page(page: Path) -> None:
    """Run the page's blocks in the current directory. What a block raises leaves with the page's line numbers."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    with asyncio.Runner() as runner:
        for block in blocks(page):
            if block.language == "python":
                run_python(block, page, main, runner)
            for command, printed in block.commands:
                run_command(command, printed, f"{page}:{block.line}")


def run_python(block: Block, page: Path, main: ModuleType, runner: asyncio.Runner) -> None:
    """Run a block in the page's namespace, or in its own module whose names then join that namespace."""
    module = main
    if file := FILE.match(block.text):
        module = ModuleType(file["name"])
        sys.modules[module.__name__] = module
        Path(f"{module.__name__}.py").write_text(block.text, "utf-8")
    source = "\n" * (block.line - 1) + block.text
    code = compile(source, page, "exec", flags=PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    coroutine = eval(code, vars(module))  # noqa: S307  the page is ours
    if inspect.iscoroutine(coroutine):
        runner.run(coroutine)
    vars(main).update({name: value for name, value in vars(module).items() if not name.startswith("__")})


def run_command(command: str, printed: str, place: str) -> None:
    """Run a command line; it must succeed and print what the page shows, if the page shows anything."""
    shell = ["sh", "-c", command]
    done = subprocess.run(shell, stdout=PIPE, stderr=STDOUT, text=True, timeout=60, check=False)
    if done.returncode:
        sys.exit(f"{place}: `{command}` ended with {done.returncode}:\n{done.stdout}")
    rules = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if printed.strip() and not doctest.OutputChecker().check_output(printed, done.stdout, rules):
        sys.exit(f"{place}: `{command}` should print\n{printed}\nbut printed\n{done.stdout}")


if __name__ == "__main__":
    sys.path[0] = ""
    run_page(Path(sys.argv[1]).resolve())
