"""R18: an audit never reports health over partial data: what it covers is counted, and what it leaves out is said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.audit import AdapterAudit, audit_adapter
from gradience_analysis.errors import GradienceError
from tests.analysis.adapters.files import PREFIX, Tensor, adapter, assemble, base, floats, layout, linear, safetensors

Q = f"{PREFIX}.0.self_attn.q_proj"
SECOND = f"{PREFIX}.1.self_attn.q_proj"


def without(tensors: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    """The tensors but for some."""
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def embedding(r: int = 4) -> dict[str, Tensor]:
    """The factors of an embedding of 10 words."""
    name = "base_model.model.model.embed_tokens"
    return {f"{name}.lora_embedding_A": floats((r, 10)), f"{name}.lora_embedding_B": floats((8, r))}


@dataclass(frozen=True)
class Broken:
    """An adapter that an earlier auditor passed, and what must be seen now.

    Attributes:
        tensors: Its tensors.
        config: What is changed in its config.
        audited: Keys that may count as audited, of `keys`.
        keys: Keys of the adapter.
        left_out: Module or key, and reason, of what must be left out.
        codes: Findings that there must be.
        said: A remark in which these words must stand.
    """

    tensors: Callable[[], Mapping[str, Tensor]] = linear
    config: Mapping[str, Any] = field(default_factory=dict)
    audited: int = 4
    keys: int = 4
    left_out: tuple[tuple[str, str], ...] = ()
    codes: tuple[str, ...] = ()
    said: str = ""


CORPUS: dict[str, Broken] = {
    "lora_A without its lora_B": Broken(
        lambda: without(linear(), f"{Q}.lora_B.weight"), {}, 2, 3, (("0.self_attn", "unpaired"),), ("unpaired_factors",)
    ),
    "lora_B without its lora_A": Broken(
        lambda: without(linear(), f"{Q}.lora_A.weight"), {}, 2, 3, (("0.self_attn", "unpaired"),), ("unpaired_factors",)
    ),
    "A (4, 16) with B (16, 5)": Broken(
        lambda: {**linear(), f"{Q}.lora_A.weight": floats((4, 16)), f"{Q}.lora_B.weight": floats((16, 5))},
        {}, 2, 4, (("0.self_attn", "mismatched"),), ("rank_mismatch",),
    ),
    "factors stored transposed": Broken(
        lambda: {**linear(), f"{Q}.lora_A.weight": floats((8, 4)), f"{Q}.lora_B.weight": floats((4, 8))},
        {}, 4, 4, (), ("rank_mismatch",),
    ),
    "NaN in one weight": Broken(
        lambda: {**linear(), f"{Q}.lora_B.weight": floats((8, 4), [math.nan] + [0.5] * 31)},
        {}, 2, 4, (("0.self_attn", "nonfinite"),), ("nonfinite_weights",),
    ),
    "infinity in one weight": Broken(
        lambda: {**linear(), f"{Q}.lora_A.weight": floats((4, 8), [0.5] * 31 + [-math.inf])},
        {}, 2, 4, (("0.self_attn", "nonfinite"),), ("nonfinite_weights",),
    ),
    "every lora_B zero": Broken(lambda: linear(b=0.0), {}, codes=("untrained_factors",), said="exactly zero"),
    "one lora_B zero": Broken(
        lambda: {**linear(), f"{Q}.lora_B.weight": floats((8, 4), 0.0)}, {},
        codes=("untrained_factors",), said="1 module is exactly",
    ),
    "r = 0 in the config": Broken(linear, {"r": 0}, codes=("adapter_config_wrong_type",)),
    "r = -3 in the config": Broken(linear, {"r": -3}, codes=("adapter_config_wrong_type",)),
    'r = "16" in the config': Broken(linear, {"r": "16"}, codes=("adapter_config_wrong_type",)),
    "r = 8 in the config, 4 in the factors": Broken(linear, {"r": 8}, codes=("rank_mismatch",)),
    "a negative alpha": Broken(linear, {"lora_alpha": -8}, codes=("adapter_config_odd",)),
    "an alpha of zero": Broken(linear, {"lora_alpha": 0}, codes=("adapter_config_odd",)),
    "no alpha": Broken(linear, {"lora_alpha": None}, said="scaling of 2 modules is not known"),
    "DoRA without the base": Broken(
        lambda: {**linear(), f"{Q}.lora_magnitude_vector": floats((8,))}, {"use_dora": True},
        5, 5, said="DoRA: 1 module",
    ),
    "an initialisation that changes the base": Broken(linear, {"init_lora_weights": "pissa"}, said="pissa"),
    "an embedding beside linear layers": Broken(lambda: {**linear(), **embedding()}, {}, 6, 6),
    "another method beside LoRA": Broken(
        lambda: {**linear(), "base_model.model.h.0.fc.hada_w1_a": floats((4, 8))},
        {}, 4, 5, (("h.0.fc", "unsupported_method"),), ("adapter_not_covered",),
    ),
    "a key in no known layout": Broken(
        lambda: {**linear(), f"{Q}.lora_C.weight": floats((4, 4))},
        {}, 4, 5, (("0.self_attn", "unknown_key"),), ("adapter_not_covered",),
    ),
    "a number format that is not decoded": Broken(
        lambda: {**linear(), f"{Q}.lora_A.weight": ("F8_E8M0", (4, 8), bytes(32))},
        {}, 2, 4, (("0.self_attn", "undecoded_dtype"),), ("adapter_not_covered",),
    ),
    "integers for a factor": Broken(
        lambda: {**linear(), f"{Q}.lora_A.weight": ("I8", (4, 8), bytes(32))},
        {}, 2, 4, (("0.self_attn", "undecoded_dtype"),),
    ),
    "a factor without elements": Broken(
        lambda: {**linear(), f"{Q}.lora_A.weight": floats((0, 8)), f"{Q}.lora_B.weight": floats((8, 0))},
        {}, 2, 4, (("0.self_attn", "rank_zero"),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CORPUS.values(), ids=CORPUS)
def test_what_is_wrong_is_seen_and_never_averaged_away(tmp_path: Path, case: Broken) -> None:
    """Given a broken adapter, when audited, then it is counted, left out with the reason, or judged; never healthy."""
    audit = audit_adapter(adapter(tmp_path / "a", case.tensors(), **dict(case.config)))
    coverage = audit.coverage
    assert (coverage.audited, coverage.lora_keys) == (case.audited, case.keys)
    for words, reason in case.left_out:
        assert any(words in one.module and one.reason == reason for one in coverage.left_out)
    assert len(coverage.left_out) == len(case.left_out)
    assert set(case.codes) <= {finding.code for finding in audit.findings}
    assert case.said in " ".join(audit.remarks)


def test_every_case_of_the_corpus_leaves_a_word() -> None:
    """Given the corpus, when its expectations are looked at, then each asks for a finding, a reason or a remark."""
    silent = [name for name, case in CORPUS.items() if not (case.codes or case.left_out or case.said)]
    assert silent == ["an embedding beside linear layers"]  # nothing is wrong with it: it was not seen at all once


def test_an_embedding_is_audited_like_any_module(tmp_path: Path) -> None:
    """Given the factors of an embedding, when audited, then they are a row, with the scaling of the others."""
    audit = audit_adapter(adapter(tmp_path / "a", embedding()))
    (row,) = audit.rows
    assert (row.name, row.shape, row.scaling) == ("model.embed_tokens", (10, 8), 2.0)


@pytest.mark.parametrize(("rslora", "scaling"), [(False, 2.0), (True, 4.0)])
def test_the_scaling_rule_of_the_config_is_kept(tmp_path: Path, rslora: bool, scaling: float) -> None:
    """Given alpha 8 at r = 4, when audited with and without rsLoRA, then norms are scaled by 8 / sqrt(4) or 8 / 4."""
    audit = audit_adapter(adapter(tmp_path / "a", linear(), use_rslora=rslora))
    assert {row.scaling for row in audit.rows} == {scaling}
    # Factors of 0.5 throughout: lora_B @ lora_A is 1.0 throughout, of norm 8 for 8 x 8.
    assert audit.rows[0].spectral_norm == pytest.approx(8 * scaling)


def refused(folder: Path, **options: Any) -> str:
    """The sentence with which an adapter is refused."""
    with pytest.raises(GradienceError) as caught:
        audit_adapter(folder, **options)
    return str(caught.value)


def test_repeated_keys_in_a_header_are_refused(tmp_path: Path) -> None:
    """Given a header that names a tensor twice, when audited, then it is refused by that name."""
    folder = adapter(tmp_path / "a")
    entries, data = layout(linear())
    text = json.dumps(entries)
    first = json.dumps({f"{Q}.lora_A.weight": entries[f"{Q}.lora_A.weight"]})[1:-1]
    (folder / "adapter_model.safetensors").write_bytes(assemble(f"{{{first}, {text[1:]}".encode(), data))
    assert "twice" in refused(folder) or "repeat" in refused(folder)


def test_an_adapter_of_another_method_has_no_module_and_says_so(tmp_path: Path) -> None:
    """Given an adapter of LoHa alone, when audited, then nothing is audited and the coverage is 0 of its keys."""
    audit = audit_adapter(adapter(tmp_path / "a", {"base_model.model.h.0.fc.hada_w1_a": floats((4, 8))}))
    assert (audit.rows, audit.coverage.share) == ((), 0.0)
    assert "adapter_not_covered" in {finding.code for finding in audit.findings}
    assert audit.summary["n_layers"] == 0
    assert audit.summary["utilization_mean"] is None
    assert audit.summary["suggested_r_global_median"] is None


def test_a_checkpoint_without_any_factor_is_no_adapter(tmp_path: Path) -> None:
    """Given whole tensors only, when audited, then there are no adapter keys and no share of them."""
    audit = audit_adapter(adapter(tmp_path / "a", {"model.embed_tokens.weight": floats((10, 8))}))
    assert (audit.coverage.lora_keys, audit.coverage.share) == (0, None)
    assert audit.coverage.whole_tensors == ("model.embed_tokens.weight",)


def test_a_missing_shard_is_counted_against_the_coverage(tmp_path: Path) -> None:
    """Given an index that names a shard that is not there, when audited, then its keys count as not audited."""
    folder = adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").unlink()
    parts = linear(layers=2)
    names = [name for name in parts if ".0." in name]
    first, second = "adapter_model-00001-of-00002.safetensors", "adapter_model-00002-of-00002.safetensors"
    (folder / first).write_bytes(safetensors({name: parts[name] for name in names}))
    index = {"weight_map": {name: first if name in names else second for name in parts}}
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    audit = audit_adapter(folder)
    assert (audit.coverage.audited, audit.coverage.lora_keys) == (2, 4)
    assert "missing_file" in {one.reason for one in audit.coverage.left_out}


def test_a_base_that_matches_nothing_is_not_an_update_of_zero(tmp_path: Path) -> None:
    """Given a base without any of its modules, when audited against it, then no UDR is measured, and each says why."""
    other = tmp_path / "base"
    base(other)
    (other / "model.safetensors").write_bytes(safetensors({"encoder.norm.weight": floats((3, 5))}))
    audit = audit_adapter(adapter(tmp_path / "a"), other)
    assert audit.summary["n_layers_with_udr"] == 0
    assert audit.summary["udr_max"] is None
    assert all(row.udr is None and row.base_reason for row in audit.rows)


def test_code_beside_a_base_is_never_run(tmp_path: Path) -> None:
    """Given a base whose config asks for code of its own, when audited against, then the code is not run."""
    touched = tmp_path / "touched"
    folder = base(tmp_path / "base")
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Model"}, "model_type": "x"}))
    (folder / "modeling.py").write_text(f"open({str(touched)!r}, 'w')\nclass Model: ...\n")
    audit: AdapterAudit = audit_adapter(adapter(tmp_path / "a"), folder)
    assert audit.summary["n_layers_with_udr"] == 2
    assert not touched.exists()
