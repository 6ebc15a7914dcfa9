"""Adapter files: safetensors headers and tensors, adapter_config.json, and what each tensor of an adapter is.

Nothing in here runs code from a file, loads a model class, or follows a path that stands inside a file.
"""

from __future__ import annotations

from gradience_analysis.adapters.config import AdapterConfig, AdapterConfigError, read_adapter_config
from gradience_analysis.adapters.factors import Inventory, Layout, LeftOut, LoraModule, TensorPlace
from gradience_analysis.adapters.header import Header, HeaderError, TensorEntry, read_header
from gradience_analysis.adapters.keys import Role, TensorKey, classify
from gradience_analysis.adapters.opened import OpenedAdapter, adapter_folders, open_adapter
from gradience_analysis.adapters.tensors import SafetensorsFile, TensorDtypeError, TensorExtremes
from gradience_analysis.adapters.weights import WeightFiles, find_weights

__all__ = [
    "AdapterConfig",
    "AdapterConfigError",
    "Header",
    "HeaderError",
    "Inventory",
    "Layout",
    "LeftOut",
    "LoraModule",
    "OpenedAdapter",
    "Role",
    "SafetensorsFile",
    "TensorDtypeError",
    "TensorEntry",
    "TensorExtremes",
    "TensorKey",
    "TensorPlace",
    "WeightFiles",
    "adapter_folders",
    "classify",
    "find_weights",
    "open_adapter",
    "read_adapter_config",
    "read_header",
]
