"""The parser of the command line, made of the table of commands."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from typing import Final, NoReturn

from holdfast.cli.failures import UsageError
from holdfast.cli.remedies import Add
from holdfast.cli.table import COMMANDS, Command

EXITS: Final = "0 done, 1 the run failed, 2 wrong use, 3 not found, 4 store unreachable, 130 interrupted"


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong, with the usage and the nearest command."""
        fix = f"{self.format_usage().strip()}  ({self.prog} --help tells more)"
        if "invalid choice" in message and "argument COMMAND" in message:
            wrong = message.partition("'")[2].partition("'")[0]
            names = [command.name for group in COMMANDS.values() for command in group]
            close = difflib.get_close_matches(wrong, names, 1)
            message = f"unknown command {wrong!r}"
            fix = (
                f"Did you mean `holdfast {close[0]}`?"
                if close
                else "List the commands with `holdfast --help`."
            )
        raise UsageError(message, fix=" ".join(fix.split()))


def make_parser(version: str) -> Parser:
    """Return the parser of the whole command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="holdfast",
        description=f"Durable workflows: started, watched, resumed from the terminal.\n\n{_overview()}",
        epilog=f"exit codes: {EXITS}",
        formatter_class=formatter,
        usage="holdfast COMMAND ... [options]",
        allow_abbrev=False,
    )
    _common(parser.add_argument)
    parser.add_argument("--version", action="version", version=f"holdfast {version}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    for group in COMMANDS.values():
        for command in group:
            sub = subparsers.add_parser(
                command.name,
                prog=f"holdfast {command.name}",
                usage=f"holdfast {command.usage} [options]",
                description=_filled(
                    f"{command.summary[0].upper()}{command.summary[1:]}. {command.about}".strip()
                ),
                epilog=_examples(command),
                formatter_class=formatter,
                allow_abbrev=False,
            )
            command.arguments(sub.add_argument)
            _common(sub.add_argument_group("everywhere").add_argument)
    return parser


def _common(add: Add) -> None:
    """Add the options that may stand before and after the command; what is not given is absent."""
    absent = argparse.SUPPRESS
    add(
        "--url",
        default=absent,
        help="the store: sqlite:///path.db ($HOLDFAST_URL, else sqlite:///holdfast.db)",
    )
    add("--json", action="store_true", default=absent, help="JSON and nothing else on stdout")
    add("--no-color", action="store_true", default=absent, help="no colours (also: $NO_COLOR)")
    add("--traceback", action="store_true", default=absent, help="show the traceback of an error")


def _overview() -> str:
    lines = []
    for title, group in COMMANDS.items():
        lines.append(f"{title}:")
        lines += [f"  {command.name:<13}{command.summary}" for command in group]
    return "\n".join(lines)


def _examples(command: Command) -> str:
    return "\n".join(["examples:", *(f"  holdfast {example}" for example in command.examples)])


def _filled(text: str) -> str:
    return textwrap.fill(text, 100)
