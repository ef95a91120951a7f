"""The checkout: reserve, charge, ship, tell. The parcel is the point of no return."""

from __future__ import annotations

from typing import Any, TypedDict

from holdfast import RetryPolicy, Saga

from .shop import Declined


class Order(TypedDict):
    """What is ordered."""

    item: str
    pieces: int
    cents: int
    card: str


def reserve(params: Order, runtime: Any, idempotency_key: str) -> dict[str, int]:
    return {"left": runtime.shop.reserve(idempotency_key, params["item"], params["pieces"])}


def release(runtime: Any, idempotency_key: str) -> None:
    runtime.shop.release(idempotency_key.replace("compensate:", ""))


def charge(params: Order, runtime: Any, idempotency_key: str) -> str:
    return str(runtime.shop.charge(idempotency_key, params["card"], params["cents"]))


def refund(runtime: Any, idempotency_key: str) -> None:
    runtime.shop.refund(idempotency_key.replace("compensate:", ""))


def ship(params: Order, runtime: Any, idempotency_key: str) -> str:
    return str(runtime.shop.ship(idempotency_key, params["item"]))


def tell(results: dict[str, Any], runtime: Any) -> str:
    runtime.mails.append(f"your {results['ship']} is on its way")
    return "told"


checkout = Saga(
    "checkout", params=Order, description="Reserve, charge, ship, tell; undone when the bank declines"
)
checkout.add_step("reserve", forward=reserve, compensate=release)
checkout.add_step("charge", forward=charge, compensate=refund, retry=RetryPolicy(give_up_on=(Declined,)))
checkout.add_step("ship", forward=ship, kind="pivot")
checkout.add_step("tell", forward=tell, kind="retriable")
