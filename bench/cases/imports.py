"""The time of `import holdfast` beside `import langgraph.graph`, each in a fresh interpreter, alternating.

Timed inside the interpreter, so its own start-up does not count; the first of each compiles and is dropped.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from bench.measure import case_parser, emit

REPEATS = 9
MODULES = {"holdfast": "holdfast", "langgraph": "langgraph.graph", "dbos": "dbos"}
PROGRAM = """
import time
begun = time.perf_counter()
import {module}
taken = time.perf_counter() - begun
import json, resource
print(json.dumps([1000 * taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def main() -> None:
    arguments = case_parser(__doc__).parse_args()
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in MODULES}
    for _ in range(3 if arguments.quick else REPEATS):
        for name, module in MODULES.items():
            samples[name].append(import_once(module))
    metrics: dict[str, float] = {}
    for name, found in samples.items():
        metrics[f"{name}_ms"] = statistics.median(sample[0] for sample in found[1:])
        metrics[f"{name}_mb"] = statistics.median(sample[1] for sample in found[1:])
    emit(metrics)


def import_once(module: str) -> tuple[float, float]:
    program = PROGRAM.format(module=module)
    answer = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True)
    milliseconds, megabytes = json.loads(answer.stdout)
    return milliseconds, megabytes


if __name__ == "__main__":
    main()
