"""`python -m gradience` is the `gradience` command."""

from __future__ import annotations

from gradience_cli.__main__ import main

if __name__ == "__main__":
    main()
