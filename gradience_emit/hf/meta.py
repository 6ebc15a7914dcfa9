"""Where a run comes from: versions, machine, commit, quantization. The meta of ``run_start``."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

from gradience_emit import origin
from gradience_emit.model import base_model

__all__ = ["git_sha", "run_meta"]

_LIBRARIES: Final = (
    *("torch", "transformers", "peft", "accelerate", "trl", "datasets", "tokenizers", "safetensors", "numpy"),
    *("bitsandbytes", "deepspeed", "flash_attn", "liger_kernel", "unsloth"),
)
_GIT_TIMEOUT_S: Final = 2.0


def run_meta(model: Any, trainer: Any, args: Any, *, allow_hostname: bool) -> dict[str, Any]:
    """The surroundings of a run; what is unknown is left out.

    Only libraries that are imported are named. ``host`` is the first 12 hex digits of the SHA-256 of the machine's name
    unless ``allow_hostname``: enough to tell machines apart. What tells this process from others the writer adds.
    """
    meta: dict[str, Any] = {
        "framework": "huggingface",
        "trainer": None if trainer is None else type(trainer).__name__,
        "gradience_version": _version("gradience"),
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES if name in sys.modules},
        "host": origin.host(allow_hostname=allow_hostname),
        "git_sha": git_sha(),
        "device": _device(args),
        "quantization": quantization(model),
    }
    return {key: value for key, value in meta.items() if value is not None}


def git_sha() -> str | None:
    """The commit checked out in the working directory; None outside a repository or when git does not answer soon."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command, no shell
            [git, "rev-parse", "--verify", "HEAD"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    sha = answer.stdout.decode("ascii", "replace").strip()
    return sha if answer.returncode == 0 and sha else None


def quantization(model: Any) -> dict[str, Any] | None:
    """``bits``, ``scheme`` and ``compute_dtype`` of a quantized base model, as far as it says; None for any other."""
    config = getattr(getattr(base_model(model), "config", None), "quantization_config", None)
    if config is None:
        return None
    values: Mapping[str, Any] = config.to_dict() if hasattr(config, "to_dict") else config
    method = values.get("quant_method")
    found: dict[str, Any] = {"method": getattr(method, "value", method)}
    if values.get("load_in_4bit"):
        found |= {
            "bits": 4,
            "scheme": values.get("bnb_4bit_quant_type"),
            "compute_dtype": _dtype_name(values.get("bnb_4bit_compute_dtype")),
            "double_quant": values.get("bnb_4bit_use_double_quant"),
        }
    elif values.get("load_in_8bit"):
        found |= {"bits": 8, "scheme": "llm_int8"}
    else:
        found |= {"bits": values.get("bits"), "scheme": found["method"]}
    return {key: value for key, value in found.items() if value is not None}


def _dtype_name(dtype: Any) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(args: Any) -> str | None:
    """The device's type, with the model of the card where torch can say it."""
    device = getattr(args, "device", None)
    if device is None:
        return None
    backend: Any = getattr(sys.modules.get("torch"), device.type, None)
    name = backend.get_device_name(device) if hasattr(backend, "get_device_name") else None
    return f"{device.type}: {name}" if name else str(device.type)
