"""The typed form of every v1 event: what fits it is valid, decided in microseconds.

The published JSON Schema is the law; these types are a stricter, faster net in front of it. What fits here
is accepted by the schema (a test holds the two against each other); what does not is decided by the schema,
which knows the rare forms this net refuses, such as `step: 1.0`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
_Pointer: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^(/([^~/]|~[01])*)+$")]
_Object: TypeAlias = dict[str, Any]
_Number: TypeAlias = float | None
_Pair: TypeAlias = Annotated[list[_Number], msgspec.Meta(min_length=2, max_length=2)]
_Severity: TypeAlias = Literal["info", "warning", "error", "critical"]
_Profile: TypeAlias = Literal["easy_classification", "hard_reasoning", "generation", "unknown"]


class _Record(msgspec.Struct, tag_field="event"):
    schema: Literal["gradience.vnext.telemetry/v1"]
    ts: float
    run_id: _Name
    step: _Count | None
    seq: _Count = 0
    nonfinite: dict[_Pointer, Literal["nan", "inf", "-inf"]] = {}
    renamed: dict[_Pointer, str] = {}
    truncated: dict[_Pointer, _Count] = {}
    dropped_events: _Count = 0
    telemetry_faults: _Count = 0


class _Optimizer(msgspec.Struct):
    name: str | None = None
    lr: _Number = None
    weight_decay: _Number = None
    betas: _Pair | None = None
    eps: _Number = None
    extras: _Object | None = None


class _Lora(msgspec.Struct):
    r: int | None = None
    alpha: _Number = None
    alpha_over_r: _Number = None
    target_modules: list[str] | None = None
    dropout: _Number = None
    bias: str | None = None
    extras: _Object | None = None
    use_rslora: bool | None = None
    use_dora: bool | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, _Number] | None = None
    peft_type: str | None = None
    scaling: _Number = None
    trainable_params: int | None = None
    total_params: int | None = None


class _Training(msgspec.Struct):
    seed: int | None = None
    batch_size: int | None = None
    gradient_accumulation: int | None = None
    max_steps: int | None = None
    epochs: _Number = None
    dtype: str | None = None
    extras: _Object | None = None
    world_size: int | None = None
    max_length: int | None = None
    lr_scheduler: str | None = None
    warmup_steps: _Number = None
    max_grad_norm: _Number = None
    num_train_examples: int | None = None
    logging_nan_inf_filter: bool | None = None


class _Config(msgspec.Struct):
    model_name: str | None = None
    dataset_name: str | None = None
    task_profile: _Profile | None = None
    optimizer: _Optimizer | None = None
    lora: _Lora | None = None
    training: _Training | None = None
    notes: str | None = None
    extras: _Object | None = None


class _Meta(msgspec.Struct):
    segment: _Count | None = None
    parent_segment: int | str | None = None
    resume_step: _Count | None = None


class _Advice(msgspec.Struct):
    severity: _Severity | None = None
    action: str | None = None
    message: str | None = None
    rationale: str | None = None
    confidence: _Number = None
    scope: str | None = None
    evidence: _Object | None = None


class _RunStart(_Record, tag="run_start", kw_only=True):
    config: _Config
    meta: _Meta | None = None


class _TrainStep(_Record, tag="train_step", kw_only=True):
    loss: _Number = None
    lr: float | list[_Number] | None = None
    grad_norm: _Number = None
    epoch: _Number = None


class _Eval(_Record, tag="eval", kw_only=True):
    split: str
    metrics: _Object


class _Metrics(_Record, tag="metrics", kw_only=True):
    kind: str
    metrics: _Object


class _Alert(_Record, tag="alert", kw_only=True):
    severity: _Severity
    code: str
    message: str
    context: _Object | None = None


class _Recommendation(_Record, tag="recommendation", kw_only=True):
    recommendations: list[_Advice]


class _RunEnd(_Record, tag="run_end", kw_only=True):
    status: Literal["ok", "aborted", "error"]
    reason: str | None = None


_ANY_EVENT: Any = _RunStart | _TrainStep | _Eval | _Metrics | _Alert | _Recommendation | _RunEnd
_DECODER: Any = msgspec.json.Decoder(_ANY_EVENT)


def line_fits(data: bytes) -> bool:
    """Whether a line of strict JSON has the form of a known v1 event.

    Decoding the bytes a second time into the typed form takes a tenth of converting what was decoded before.
    """
    try:
        _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def fits(record: dict[str, Any]) -> bool:
    """The same for a record that is decoded already, such as one whose line held bare NaN tokens."""
    try:
        msgspec.convert(record, _ANY_EVENT)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True
