"""Values on the command line: params, JSON, secrets, times."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from holdfast.cli.failures import UsageError
from holdfast.cli.formats import moment_of, size, utc_now

MOST_BYTES: Final = 256 << 20
"""Bytes of a file after `@`; some have no end."""


def params_of(pairs: Sequence[str], text: str | None) -> dict[str, Any]:
    """Return the params of `--params` with those of `--param` over them."""
    params = {} if text is None else object_of(text, "--params")
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(
                f"--param {pair!r} is not NAME=VALUE", fix="Write --param pages=3, or --param name=Ada."
            )
        params[name] = value_of(value, f"--param {name}")
    return params


def value_of(text: str, where: str) -> Any:
    """Return JSON text as its value, other text as it is. What begins as JSON must be JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        if text[:1] in ("{", "[", '"'):
            raise _bad_json(where, error) from None
        return text


def object_of(text: str, option: str) -> dict[str, Any]:
    """Return the JSON object that an option gives, or the file that it names."""
    if text.startswith("@"):
        text = _read(text[1:], option)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _bad_json(option, error) from None
    if not isinstance(value, dict):
        raise UsageError(
            f"{option} is no JSON object", fix=f"""Write {option} '{{"pages": 3}}', or {option} @file.json."""
        )
    return value


def _bad_json(where: str, error: ValueError) -> UsageError:
    return UsageError(
        f"{where} is no JSON: {error}", fix="Put JSON in single quotes, so that the shell leaves it alone."
    )


def secrets_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return the secrets of `--secret NAME=@file` and `--secret NAME=$ENV`. No message shows a value."""
    return dict(_secret(pair) for pair in pairs)


def _secret(pair: str) -> tuple[str, str]:
    name, equals, source = pair.partition("=")
    if not equals or not name:
        raise UsageError("--secret is not NAME=@file or NAME=$ENV", fix="Write --secret token=@token.txt.")
    if source.startswith("@"):
        return name, _read(source[1:], f"--secret {name}").rstrip("\r\n")
    if source.startswith("$") and len(source) > 1:
        variable = source[1:].strip("{}")
        if variable not in os.environ:
            raise UsageError(f"--secret {name}: ${variable} is not set", fix=f"Export {variable} first.")
        return name, os.environ[variable]
    raise UsageError(
        f"--secret {name} is given in clear, where every user of this machine can read it",
        fix=f"Write --secret {name}=@FILE, or --secret '{name}=$VARIABLE' in single quotes.",
    )


def _read(path: str, where: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(
                f"{where}: {path} has more than {size(MOST_BYTES)}",
                fix="Give the place of large data, and read it in a node.",
            )
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(
            f"{where}: {path} cannot be read: {reason}", fix="Give the path of a file after @."
        ) from None


def time_of(text: str | None, option: str) -> datetime | None:
    """Return the moment that an option names."""
    if text is None:
        return None
    moment = moment_of(text, utc_now())
    if moment is None:
        raise UsageError(
            f"{option} {text!r} is no time", fix="Write 2h, 30m, 7d, 2026-11-20 or 2026-11-20T08:30."
        )
    return moment


def seconds_of(text: str | None, option: str) -> float | None:
    """Return a duration such as 90, 90s, 15m or 2h in seconds."""
    if text is None:
        return None
    try:
        number, unit = (text[:-1], text[-1]) if text[-1:] in "smhd" else (text, "s")
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    except (ValueError, KeyError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{option} {text!r} is no duration", fix="Write seconds, or 90s, 15m, 2h.")
    return seconds
