"""A process that does what `pool` asks for on stdin until it ends: `python -m gradience_analysis.workers.worker`."""

from __future__ import annotations

import os
import sys

from gradience_analysis.workers.pool import receive, send


def main() -> None:
    """Answer each request (a function and its argument) with the result."""
    # Whatever prints while it works, such as a third-party importer, must not print into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        try:
            function, item = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(answers, function(item))


if __name__ == "__main__":
    main()
