"""Runs a function of a test module in a new process: `answer = await elsewhere(function, url, …)`.

The function is async, stands at the top of its module, takes and returns what JSON knows.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.graphs import PATIENCE
from tests.places import ROOT

Function = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def running_elsewhere(function: Function, *arguments: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Let a new process run the function; it is killed in the end if it is still there."""
    command = (
        sys.executable,
        "-m",
        "tests.elsewhere",
        function.__module__,
        function.__name__,
        json.dumps(arguments),
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def elsewhere(function: Function, *arguments: Any) -> Any:
    """Return what the function returns in a new process."""
    async with running_elsewhere(function, *arguments) as process, asyncio.timeout(PATIENCE):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


def main() -> None:
    module, name, arguments = sys.argv[1:]
    answer = asyncio.run(getattr(importlib.import_module(module), name)(*json.loads(arguments)))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
