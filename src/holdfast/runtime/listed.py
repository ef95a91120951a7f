"""A workflow that only other processes know, by the JSON schema of its params that their workers list."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, Required, TypedDict, Union
from uuid import UUID

from holdfast.core.program import Program
from holdfast.core.work import Blobs
from holdfast.model.schema import Params

_FORMATS: Final = {
    "date-time": datetime,
    "date": date,
    "time": time,
    "duration": timedelta,
    "uuid": UUID,
    "decimal": Decimal,
    "path": Path,
}
_TYPES: Final = {"integer": int, "number": float, "boolean": bool, "null": None}


class Listed:
    """Runs of it can be started, not driven."""

    version = ""
    description = ""
    queue = "default"
    priority = 0
    timeout: float | None = None

    def __init__(self, name: str, schema: dict[str, Any]) -> None:
        """Keep the listed name and parameter schema."""
        self.name = name
        self._schema = schema

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as the workflow's own check does, as far as the listed schema tells of types and defaults.

        What it cannot tell, such as the class of a nested object, stays as it was given. Raises PayloadRejected.
        """
        properties: dict[str, Any] = self._schema.get("properties", {})
        known = _params(self.name, properties, self._schema.get("required", ()))
        defaults = {name: shape["default"] for name, shape in properties.items() if "default" in shape}
        if self._schema.get("additionalProperties") is False:
            return known.bind({**defaults, **params})
        more = {name: value for name, value in params.items() if name not in properties}
        return {**known.bind({**defaults, **{n: v for n, v in params.items() if n in properties}}), **more}

    def schema(self) -> dict[str, Any]:
        """Return the listed schema."""
        return self._schema

    def open(self, services: Any, params: dict[str, Any], blobs: Blobs) -> Program[Any]:
        """Refuse: the code is elsewhere."""
        raise LookupError(self.name)


def _params(name: str, properties: Mapping[str, Any], required: Any) -> Params:
    """Return the parameters that a JSON schema describes."""
    hints = {
        field: Required[_hint(shape)] if field in required else NotRequired[_hint(shape)]
        for field, shape in properties.items()
    }
    return Params(TypedDict(name, hints))  # type: ignore[operator]  # made of what only the schema knows


def _hint(shape: Mapping[str, Any]) -> Any:
    """Return the type that a JSON schema stands for; Any where several may."""
    if "anyOf" in shape:
        return Union[tuple(map(_hint, shape["anyOf"]))]  # noqa: UP007 - of as many as there are
    if "enum" in shape:
        return Literal[tuple(shape["enum"])]
    if shape.get("type") != "string":
        return _TYPES.get(shape.get("type", ""), Any)
    if "format" in shape:
        return _FORMATS.get(shape["format"], Any)
    return Any if "contentEncoding" in shape else str
