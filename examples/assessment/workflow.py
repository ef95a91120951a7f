"""The life cycle, read from its table."""

from pathlib import Path
from typing import Final

from holdfast import StateMachine, register

TABLE: Final = Path(__file__).with_name("lifecycle.json")

lifecycle: Final = StateMachine.from_json(TABLE.read_text(encoding="utf-8"))
register("assessment", lifecycle, "The life cycle of an assessment period", replace=True)
