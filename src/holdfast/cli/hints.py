"""Command lines that we tell people to type."""

from __future__ import annotations

import shlex


def command(url: str | None, *words: str) -> str:
    """Return a command line on the store of this one: a URL that was given is part of it, but for a password's."""
    option = [] if url is None else ["--url", "URL" if "@" in url else url]
    return shlex.join(["holdfast", *words, *option])


def resume(url: str | None, run: str, app: str = "MODULE") -> str:
    """Return the command that goes on with a run here."""
    return command(url, "resume", run, "--app", app)
