"""Recovery on one host: runs of three steps, all in their second one when their worker gets SIGKILL.

A successor with the same code is started. Taken up: from the start of its process, the interpreter and the imports
with it, to the second attempt of the last run's second step. Then it ends them all. First steps must not run again.
"""

from __future__ import annotations

import time

from bench.board import Board
from bench.engines import DURABLE_ENGINES, STEPS, load
from bench.engines.worker import workers
from bench.measure import case_parser, emit
from bench.server import connect


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--engine", choices=DURABLE_ENGINES, required=True)
    parser.add_argument("--runs", type=int, default=1000)
    arguments = parser.parse_args()
    name, url, runs = arguments.engine, arguments.url, arguments.runs
    second = range(runs, 2 * runs)
    before = Board(arguments.directory / "before", STEPS * runs)
    with workers(name, url, before, task="begin") as crew:
        crew.until(lambda: before.started(second) == runs, lambda: f"{before.started(second)} runs began")
    after = Board(arguments.directory / "after", STEPS * runs)
    killed = time.monotonic()
    with connect(url) as connection, workers(name, url, after, task="take_up") as crew:
        crew.until(
            lambda: after.started(second) == runs, lambda: f"{after.started(second)} runs were taken up"
        )
        ended = crew.drained(connection, load(name).UNENDED)
    emit(
        {
            "taken_up_seconds": after.last(second) - killed,
            "ended_seconds": ended - killed,
            "runs": runs,
            "first_steps_again": after.started(range(runs)),
            "started_again": after.repeated(),
        }
    )


if __name__ == "__main__":
    main()
