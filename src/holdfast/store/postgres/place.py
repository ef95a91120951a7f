"""Where a PostgreSQL database is: the URL as libpq takes it, and as people may see it."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

import psycopg
from psycopg import conninfo

from holdfast.errors import RequestError

_DEFAULTS: Final = {
    "application_name": "holdfast",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    # A host that went without a word is noticed before its worker's lease is over.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_FORM: Final = (
    "Use postgresql://user:password@host:5432/database, with parameters of libpq after `?`; percent-encode what is not "
    "a letter or digit in user and password."
)


class Place:
    """The parameters of a connection, checked."""

    def __init__(self, url: str, shown: str) -> None:
        """Read a URL; `shown` is what of it may be told. Raises RequestError."""
        try:
            given = conninfo.conninfo_to_dict(url)
            self.conninfo: Final = conninfo.make_conninfo(url, **(_DEFAULTS | given))
        except psycopg.Error as error:
            raise RequestError(
                f"malformed store URL: {shown}{_reason(error, url, shown)}", fix=_FORM
            ) from None
        for port in str(given.get("port") or "").split(","):
            if port and not port.isdecimal():
                raise RequestError(f"malformed store URL: {shown} (the port {port} is no number)", fix=_FORM)
        self.shown: Final = shown


def _reason(error: psycopg.Error, url: str, shown: str) -> str:
    """Return what libpq says of a URL, unless that shows more of it than it may."""
    said = " ".join(str(error).replace(url, shown).split())
    hidden = {part for whole in (url, unquote(url)) for part in _pieces(whole)} - _pieces(shown)
    return "" if any(part in said for part in hidden) else f" ({said})"


def _pieces(url: str) -> set[str]:
    for mark in ":/@?&=":
        url = url.replace(mark, " ")
    return set(url.split())
