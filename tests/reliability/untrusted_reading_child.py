"""Reads adapters and base models under an audit hook that ends the process at anything but reading; prints the codes.

Two lists of folders come in as JSON: sound ones, which are read before the hook is there, so that all is imported, and
those that are not trusted.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from gradience_analysis.adapter_check import check_adapter
from gradience_analysis.adapters import adapter_folders, open_adapter
from gradience_analysis.base_weights import open_base
from gradience_analysis.config_check.base_model.gather import gather_checkpoint, gather_model
from gradience_analysis.errors import InputError
from gradience_analysis.policy import load_policy

READING = {"os.listdir", "os.scandir", "glob.glob", "glob.glob/2", "pathlib.Path.glob", "pathlib.Path.rglob"}
READING |= {"mmap.__new__", "os.walk"}
POLICY = load_policy()


def read(folder: Path) -> dict[str, Any]:
    """What each of our readers makes of a folder, as an adapter and as a base model."""
    diagnosis = check_adapter(folder, POLICY, base=folder)
    found: dict[str, Any] = {"codes": [finding.code for finding in diagnosis.findings]}
    found["model"] = gather_model(folder).weights_fault
    found["checkpoint"] = gather_checkpoint(folder).fault
    try:
        found["adapters"] = len(adapter_folders(folder))
        with open_adapter(folder) as adapter:
            found["opened"] = len(adapter.inventory.modules)
    except InputError as error:
        found["refused"] = str(error)
    try:
        open_base(folder)
    except InputError as error:
        found["base"] = str(error)
    return found


def hook(root: str) -> None:
    """End the process at anything but reading below the root."""

    def seen(event: str, args: tuple[Any, ...]) -> None:
        if event in READING:
            return
        if event == "open":
            path, _, flags = args
            reads = isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_CREAT
            if reads and (isinstance(path, int) or str(path).startswith(root)):
                return
        os.write(1, json.dumps({"tripped": event, "args": repr(args)[:300]}).encode() + b"\n")
        os._exit(3)

    sys.addaudithook(seen)


def main() -> None:
    """Read the sound ones, then the others."""
    request = json.loads(sys.stdin.read())
    for folder in request["sound"]:
        read(Path(folder))
    hook(request["root"])
    if request.get("provoke"):
        exec(request["provoke"])  # the hook must be one that can trip
    for folder in request["folders"]:
        os.write(1, json.dumps({"folder": folder, **read(Path(folder))}).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
