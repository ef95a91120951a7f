"""The checkout: an order that goes through, and one that is undone."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from examples.checkout.demo import play
from examples.checkout.workflow import checkout


async def test_a_declined_payment_leaves_the_shop_as_it_was(tmp_path: Path) -> None:
    said = io.StringIO()
    good, declined, shop = await play(Console(file=said, width=200), tmp_path)
    assert good.status == "completed"
    assert declined.status == "failed"
    assert declined.error is not None
    assert declined.error.name == "charge"
    assert declined.error.compensated == ("reserve",)
    assert shop.books() == {"lantern": 8, "cents": 5980, "parcels": 1}
    assert "declines 59.80 EUR" in said.getvalue()


def test_its_picture_shows_the_point_of_no_return() -> None:
    assert "ship (pivot)" in checkout.to_ascii()
