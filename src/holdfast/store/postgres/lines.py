"""A line to the server: one connection that is made when it is needed, and made anew after it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import psycopg

from holdfast.errors import StoreUnavailable
from holdfast.store.postgres.failures import unconnected
from holdfast.store.postgres.link import Link
from holdfast.store.postgres.place import Place


class Line:
    """Gives the one link of its purpose."""

    def __init__(self, place: Place, greet: Callable[[Link], None] | None = None) -> None:
        """`greet` is called with each fresh link."""
        self._place: Final = place
        self._greet = greet
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    @property
    def ready(self) -> Link | None:
        """The link if it is there and whole."""
        link = self._link
        return None if link is None or link.lost else link

    async def link(self) -> Link:
        """Return the link, connecting first if need be. Raises StoreUnavailable."""
        async with self._connecting:
            if (link := self.ready) is not None:
                return link
            self._check_open()
            try:
                link = await Link.open(self._place.conninfo)
            except psycopg.Error as error:
                raise unconnected(error, self._place.shown) from None
            if self._closed:  # while we connected
                link.close()
                self._check_open()
            if self._greet is not None:
                self._greet(link)
            self._link = link
            return link

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the store {self._place.shown} is not open", fix="Call `open()` first.")

    def close(self) -> None:
        """Disconnect for good; what is under way fails."""
        self._closed = True
        if self._link is not None:
            self._link.close()
