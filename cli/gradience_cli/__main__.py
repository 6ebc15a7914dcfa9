"""Guarded entry: says which extra to install when the command line itself is not complete."""

from __future__ import annotations

import gc
import sys

from gradience_cli.extras import advice, missing_extra

EXIT_USAGE = 2
# A report is built once and the process ends: looking for garbage more often only costs time.
_GC_THRESHOLD = 50_000


def main() -> None:
    """Run the command line on `sys.argv` and exit with its code.

    Raises:
        ModuleNotFoundError: A module is missing that no extra brings; that is a bug, and shows its traceback.
    """
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    try:
        from gradience_cli.app import run

        code = run(sys.argv[1:])
    except ModuleNotFoundError as error:
        extra = missing_extra(error)
        if extra is None:
            raise
        sys.stderr.write(advice(error, extra) + "\n")
        code = EXIT_USAGE
    sys.exit(code)


if __name__ == "__main__":
    main()
