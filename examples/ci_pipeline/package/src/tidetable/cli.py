"""The command: ``tidetable 2026-11-20T04:10 3`` prints three high waters."""

import sys
from datetime import datetime

from tidetable.clock import high_waters


def main() -> None:
    """Print the high waters that the command line asks for."""
    first, count = datetime.fromisoformat(sys.argv[1]), int(sys.argv[2])
    print("\n".join(f"{water:%Y-%m-%d %H:%M}" for water in high_waters(first, count)))
