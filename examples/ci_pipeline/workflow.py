"""The DAG: lint, compile and test in parallel, build a wheel, install it into an empty environment, try it, publish it.

Files are handed on as paths below the folder `work`. A step that is repeated makes its files anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from examples.commands import run
from holdfast import DAGWorkflow, Task, register

NAME: Final = "ci"
PACKAGE: Final = Path(__file__).parent / "package"
PROGRAMS: Final = "Scripts" if os.name == "nt" else "bin"
FIRST_TIDES: Final = "2026-11-20 04:10\n2026-11-20 16:35"


def checkout(source: str, work: str) -> str:
    """Copies the package, so that nobody changes it while it is built."""
    root = Path(work) / "checkout"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source, root, ignore=shutil.ignore_patterns("__pycache__"))
    return str(root)


async def environment(work: str) -> str:
    """Makes an environment that has nothing."""
    folder = Path(work) / "environment"
    await run(sys.executable, "-m", "venv", "--clear", "--without-pip", folder, folder=Path(work))
    return str(folder)


async def lint(checkout: str) -> str:
    rules = ("--select", "E,F,I,B", "--line-length", "120")
    ruff = (sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--output-format", "concise")
    return await run(*ruff, *rules, ".", folder=Path(checkout))


async def compile_all(checkout: str, work: str) -> str:
    """Compiles each file; a warning is an error."""
    command = (sys.executable, "-W", "error", "-m", "compileall", "-q", "-f", "src")
    return await run(*command, folder=Path(checkout), PYTHONPYCACHEPREFIX=str(Path(work) / "compiled"))


def list_tests(checkout: str) -> list[str]:
    return sorted(path.stem for path in (Path(checkout) / "tests").glob("test_*.py"))


async def test(module: str, checkout: str) -> str:
    """Runs one module of tests."""
    command = (sys.executable, "-m", "unittest", f"tests/{module}.py")
    said = await run(*command, folder=Path(checkout), PYTHONPATH="src")
    return f"{module}: {said.splitlines()[-3].removesuffix('s')} s"


async def build(checkout: str, work: str) -> str:
    folder = Path(work) / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    await run(*command, folder=Path(checkout))
    [wheel] = folder.glob("*.whl")
    return str(wheel)


async def install(build: str, environment: str) -> str:
    pip = (sys.executable, "-m", "pip", "--python", environment, "--no-input", "--disable-pip-version-check")
    options = ("--no-index", "--no-deps", "--force-reinstall", "--quiet")
    await run(*pip, "install", *options, build, folder=Path(environment))
    return str(Path(environment) / PROGRAMS / "tidetable")


async def smoke(install: str) -> str:
    """Asks the installed command for two tides."""
    printed = await run(install, "2026-11-20T04:10", "2", folder=Path(install).parent)
    if printed.splitlines() != FIRST_TIDES.splitlines():
        raise ValueError(f"tidetable printed {printed!r}")
    return printed


def verdict(
    list_tests: list[str] | None, lint: str | None, test: list[str] | None, smoke: str | None
) -> dict[str, bool]:
    """Says which checks are passed. Of a task that failed it gets None, of a map the results that there are."""
    return {
        "lint": lint is not None,
        "test": list_tests is not None and len(test or ()) == len(list_tests),
        "smoke": smoke is not None,
    }


def publish(build: str, shelf: str) -> dict[str, str]:
    """Puts the wheel on the shelf, whole or not at all."""
    wheel = Path(build)
    beside = Path(shelf) / f".{wheel.name}"
    shutil.copyfile(wheel, beside)
    return {
        "wheel": str(beside.replace(beside.with_name(wheel.name))),
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
    }


dag = DAGWorkflow(
    [
        Task("checkout", checkout),
        Task("environment", environment),
        Task("lint", lint, depends_on=["checkout"]),
        Task("compile", compile_all, depends_on=["checkout"]),
        Task("list_tests", list_tests, depends_on=["checkout"]),
        Task("test", test, map_over="list_tests", depends_on=["checkout"]),
        Task("build", build, depends_on=["checkout", "compile"]),
        Task("install", install, depends_on=["build", "environment"]),
        Task("smoke", smoke, depends_on=["install"]),
        Task("verdict", verdict, depends_on=["list_tests", "lint", "test", "smoke"], trigger_rule="all_done"),
        Task("publish", publish, depends_on=["build", "lint", "test", "smoke"]),
    ],
    max_parallel=4,
    default_timeout=300,
)
register(NAME, dag, "builds, tests and publishes a package", replace=True)
