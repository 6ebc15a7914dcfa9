"""`python -m gradience.demo` is `gradience demo`, with the same options."""

from __future__ import annotations

import sys

from gradience_cli.__main__ import main

if __name__ == "__main__":
    sys.argv[1:1] = ["demo"]
    main()
