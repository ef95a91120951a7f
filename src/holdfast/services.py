"""The services that a user's factories and nodes share."""

from __future__ import annotations

import logging
from typing import Any


class Runtime:
    """The user's services by attribute: `Runtime(documents=store).documents`. `logger` always exists."""

    logger: logging.Logger

    def __init__(self, **services: Any) -> None:
        """Keep the services."""
        self.__dict__.update({"logger": logging.getLogger("holdfast.app"), **services})

    def __getattr__(self, name: str) -> Any:
        """Say which services there are when one is missing."""
        known = ", ".join(sorted(self.__dict__))
        raise AttributeError(
            f"the runtime has no service {name!r}; it has {known}. Give it: Runtime({name}=...)"
        )

    def __repr__(self) -> str:
        """Show the names."""
        return f"Runtime({', '.join(sorted(self.__dict__))})"
