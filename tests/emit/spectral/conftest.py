"""Every test in this folder needs the extra `hf`, and one thread: the models are too small for more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests, and let pass the one warning that peft causes in transformers."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.hf)
            item.add_marker(
                pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
            )


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
