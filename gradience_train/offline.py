"""Keep a process off the network and its terminal free of library chatter."""

from __future__ import annotations

import logging
import os
import warnings

_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
}


def offline_and_quiet() -> None:
    """Set up this process for a run that needs no network and prints nothing of its own.

    Call it before transformers is imported: the library reads its environment then. It belongs to a program
    that owns its process, never to a library function, because it changes warnings and logging for all.
    """
    os.environ.update(_SETTINGS)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|peft|accelerate|huggingface_hub)(\.|$)")
    for library in ("torch", "transformers", "peft", "accelerate", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
