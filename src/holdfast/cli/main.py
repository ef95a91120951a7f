"""`holdfast`: parses the command line, calls the command, and turns what it raises into an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import holdfast
from holdfast.cli.failures import DONE, READER_GONE, WRONG_USE, OutputFailed, UsageError, exit_code
from holdfast.cli.output import Output
from holdfast.cli.parser import make_parser
from holdfast.cli.table import handler_of

_COMMON: Final = {"url": None, "json": False, "no_color": False, "traceback": False}


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command line, that of the process when none is given, and return the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    if sys.stderr is None:  # the caller closed it
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends
    if sys.stdout is None:  # what is opened next would take its place
        sys.stderr.write("error: standard output is closed\nfix: Leave it open, or write > /dev/null.\n")
        return WRONG_USE
    # Before the words are understood an error must be told already.
    out = Output(json="--json" in words, traceback="--traceback" in words, color="--no-color" not in words)
    try:
        code = _carry_out(words, out)
        out.flush()
    except BrokenPipeError:
        _drop_stdout()
        return READER_GONE
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    except Exception as error:  # noqa: BLE001 - whatever it is, people get a message
        if isinstance(error, OutputFailed):
            _drop_stdout()
        with contextlib.suppress(OSError):
            out.failure(error)
        return exit_code(error)
    return code


def _carry_out(words: Sequence[str], out: Output) -> int:
    parser = make_parser(holdfast.__version__)
    try:
        args = Namespace(**{**_COMMON, **vars(parser.parse_args(words))})
    except SystemExit as end:  # argparse: --help, --version
        return end.code if isinstance(end.code, int) else DONE
    if args.command is None:
        if args.json:
            raise UsageError("no command", fix="List the commands with `holdfast --help`.")
        parser.print_help()
        return WRONG_USE
    args.words = words
    if args.url is not None and not args.url.strip():
        raise UsageError("--url is empty", fix="Write --url sqlite:///path.db, or leave it out.")
    module, _, function = handler_of(args.command).partition(":")
    command = getattr(import_module(f"holdfast.cli.commands.{module}"), function)
    code: int = command(args, out)
    return code


def _drop_stdout() -> None:
    """Have nobody complain at exit that the reader is gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
