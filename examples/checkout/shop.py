"""A shop with a stock and a card terminal, in one SQLite file: what they do is done once per key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


class Declined(Exception):
    """The bank declines the payment."""


class Shop:
    """Stock, payments and parcels. Each request has a key; the same request twice is the same as once."""

    def __init__(self, file: Path, stock: dict[str, int]) -> None:
        self._file = file
        with self._open() as db:
            db.executescript(
                """
                CREATE TABLE stock (item TEXT PRIMARY KEY, pieces INTEGER NOT NULL);
                CREATE TABLE taken (key TEXT PRIMARY KEY, item TEXT, pieces INTEGER, given_back INTEGER DEFAULT 0);
                CREATE TABLE payments (key TEXT PRIMARY KEY, card TEXT, cents INTEGER, refunded INTEGER DEFAULT 0);
                CREATE TABLE parcels (key TEXT PRIMARY KEY, item TEXT);
                """
            )
            db.executemany("INSERT INTO stock VALUES (?, ?)", stock.items())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file)) as db, db:
            yield db

    def reserve(self, key: str, item: str, pieces: int) -> int:
        """Takes pieces from the stock; returns how many are left."""
        with self._open() as db:
            if db.execute(
                "INSERT OR IGNORE INTO taken (key, item, pieces) VALUES (?, ?, ?)", (key, item, pieces)
            ).rowcount:
                db.execute("UPDATE stock SET pieces = pieces - ? WHERE item = ?", (pieces, item))
            (left,) = db.execute("SELECT pieces FROM stock WHERE item = ?", (item,)).fetchone()
            if left < 0:
                raise LookupError(
                    f"only {left + pieces} of {item} are left"
                )  # the transaction is rolled back
        return int(left)

    def release(self, key: str) -> None:
        """Gives back what was taken under a key, if anything was."""
        with self._open() as db:
            if db.execute(
                "UPDATE taken SET given_back = 1 WHERE key = ? AND NOT given_back", (key,)
            ).rowcount:
                db.execute(
                    "UPDATE stock SET pieces = pieces + (SELECT pieces FROM taken WHERE key = ?) "
                    "WHERE item = (SELECT item FROM taken WHERE key = ?)",
                    (key, key),
                )

    def charge(self, key: str, card: str, cents: int) -> str:
        """Charges a card; returns the payment's number. Raises Declined for a card that ends with 0002."""
        if card.endswith("0002"):
            raise Declined(f"the bank declines {cents / 100:.2f} EUR on card {card}")
        with self._open() as db:
            db.execute(
                "INSERT OR IGNORE INTO payments (key, card, cents) VALUES (?, ?, ?)", (key, card, cents)
            )
        return f"payment-{key.rpartition(':')[0]}"

    def refund(self, key: str) -> None:
        """Gives back what was charged under a key, if anything was."""
        with self._open() as db:
            db.execute("UPDATE payments SET refunded = 1 WHERE key = ?", (key,))

    def ship(self, key: str, item: str) -> str:
        """Hands a parcel over; that cannot be taken back."""
        with self._open() as db:
            db.execute("INSERT OR IGNORE INTO parcels VALUES (?, ?)", (key, item))
        return f"parcel-{key.rpartition(':')[0]}"

    def books(self) -> dict[str, int]:
        """What the shop has and has earned."""
        with self._open() as db:
            stock = dict(db.execute("SELECT item, pieces FROM stock"))
            (cents,) = db.execute(
                "SELECT coalesce(sum(cents), 0) FROM payments WHERE NOT refunded"
            ).fetchone()
            (parcels,) = db.execute("SELECT count(*) FROM parcels").fetchone()
        return {**stock, "cents": cents, "parcels": parcels}
