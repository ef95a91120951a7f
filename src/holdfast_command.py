"""The program `holdfast`: Ctrl-C ends it in silence until everything is loaded, and then as the command says.

It stands beside the package, for whatever is inside loads all of it first.
"""

import signal
import sys


def main() -> int:
    """Carry out the command line of this process and return the exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from holdfast.cli.main import main as carry_out  # noqa: PLC0415 - this is what may be interrupted

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, before)
    return carry_out()


if __name__ == "__main__":
    sys.exit(main())
