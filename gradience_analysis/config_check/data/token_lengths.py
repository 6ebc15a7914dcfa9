"""Counts tokens with a tokenizer.json in a separate, isolated Python: it may be damaged, or hostile.

Run as a script: reads one JSON list of texts from standard input and writes one JSON list of counts. It is started
by its path, so it imports nothing of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

SECONDS = 20.0


def token_lengths(tokenizer: Path, texts: Sequence[str]) -> list[int] | None:
    """Tokens of each text, special tokens of the tokenizer included.

    None when they cannot be counted: the `tokenizers` library is not installed, the file is not one of its
    own, or it takes longer than 20 s.
    """
    command = [sys.executable, "-I", __file__, str(tokenizer.absolute())]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter on this file
            command,
            input=json.dumps(list(texts)).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=True,
            env={"TOKENIZERS_PARALLELISM": "false"},
        )
        counts: object = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if not isinstance(counts, list):
        return None
    numbers = [count for count in cast("list[object]", counts) if isinstance(count, int)]
    return numbers if len(numbers) == len(texts) else None


def _main() -> None:
    from tokenizers import Tokenizer

    backend: Any = Tokenizer.from_file(sys.argv[1])
    backend.no_truncation()
    backend.no_padding()
    texts: list[str] = json.load(sys.stdin)
    json.dump([len(backend.encode(text)) for text in texts], sys.stdout)


if __name__ == "__main__":
    _main()
