"""Pickled adapters: refused, and on request converted in a process of their own and audited like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gradience_analysis.audit import audit_adapter
from gradience_analysis.errors import InputError
from tests.analysis.adapters.files import adapter

pytestmark = pytest.mark.hf


def pickled(folder: Path, name: str = "adapter_model.bin") -> Path:
    """The same adapter as safetensors beside it, as torch.save writes it."""
    adapter(folder)
    weights = folder / "adapter_model.safetensors"
    torch.save(load_file(weights), folder / name)
    weights.unlink()
    return folder


def test_a_pickled_adapter_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Given weights as a pickle, when audited, then they are refused by name, with how to convert them."""
    folder = pickled(tmp_path / "a")
    with pytest.raises(InputError, match=r"adapter_model\.bin: is pickled.*safe_serialization.*--allow-pickle"):
        audit_adapter(folder)


def test_on_request_it_is_audited_and_still_called_a_pickle(tmp_path: Path) -> None:
    """Given the same with leave, when audited, then the figures are those of safetensors, and the finding stays."""
    converted = audit_adapter(pickled(tmp_path / "a"), allow_pickle=True)
    plain = audit_adapter(adapter(tmp_path / "b"))
    assert converted.summary == plain.summary
    assert [row.to_dict() for row in converted.rows] == [row.to_dict() for row in plain.rows]
    assert "pickled_weights" in {finding.code for finding in converted.findings}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["adapter_config.json", "adapter_model.bin"]


def test_weights_that_were_named_are_converted_too(tmp_path: Path) -> None:
    """Given a pickled file named for the weights, when audited with leave, then it is read, and else refused."""
    folder = adapter(tmp_path / "a")
    other = pickled(tmp_path / "b", "weights.pt") / "weights.pt"
    audit = audit_adapter(folder, weights=other, allow_pickle=True)
    assert audit.coverage.share == 1
    with pytest.raises(InputError, match=r"weights\.pt"):
        audit_adapter(folder, weights=other)


def test_safetensors_beside_a_pickle_are_what_is_read(tmp_path: Path) -> None:
    """Given both in a folder, when audited with leave, then the pickle is left alone: a broken one changes nothing."""
    folder = adapter(tmp_path / "a")
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04no pickle at all")
    assert audit_adapter(folder, allow_pickle=True).coverage.share == 1


def test_a_pickle_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    """Given bytes that torch cannot load, when audited with leave, then one sentence names the file."""
    folder = adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04no pickle at all")
    with pytest.raises(InputError, match=r"adapter_model\.bin"):
        audit_adapter(folder, allow_pickle=True)
