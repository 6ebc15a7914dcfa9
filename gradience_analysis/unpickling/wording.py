"""What to tell the user when a pickled file was not converted: one sentence for each way that it can end."""

from __future__ import annotations

import signal
from pathlib import Path

from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.errors import InputError
from gradience_analysis.unpickling.isolation import START_SECONDS, Outcome

_COPY = "Ask for a safetensors copy."
_INSTALL = "Run: pip install 'gradience[hf]'"
_FLAT = "Save the dictionary of tensors alone: torch.save(state_dict, path), or better safetensors.torch.save_file."


def failure(path: Path, outcome: Outcome, *, memory_bytes: int, seconds: float) -> InputError:
    """The error for a file that was not converted.

    Args:
        path: The file.
        outcome: How the process that read it ended; whatever stands in it came from outside.
        memory_bytes: Memory that it had.
        seconds: Time that it had.
    """
    match outcome.name:
        case "no_memory":
            message = f"takes more than the {memory_bytes:,} bytes of memory that unpickling may take."
            return InputError(str(path), message, _COPY)
        case "too_large":
            size = outcome.fields.get("size")
            named = f"{size:,}" if isinstance(size, int) else "more"
            message = f"names {named} bytes of tensors; at most {memory_bytes:,} are converted."
            return InputError(str(path), message, _COPY)
        case "timed_out":
            message = f"takes longer than the {seconds:g} seconds that unpickling may take."
            return InputError(str(path), message, _COPY)
        case "crashed":
            return _crashed(path, outcome)
        case "no_torch" | "old_torch" | "unprepared" | "never_ready":
            return _without_torch(path, outcome)
        case _:
            return _refused(path, outcome)


def _refused(path: Path, outcome: Outcome) -> InputError:
    name = shown(outcome.text("name"))
    message, remedy = "was not converted.", _COPY
    match outcome.name:
        case "refused" if outcome.fields.get("name"):
            message = f"asks for {name}, which weights do not need, and was refused; none of its code ran."
        case "refused":
            said = shown(outcome.text("text"))
            message = f"is no pickle that torch reads with weights_only=True ({said}); none of its code ran."
        case "tar":
            message = "is a tar archive, as torch wrote it before 2017; weights_only=True does not read that."
        case "tripped":
            event, detail = outcome.text("event"), outcome.text("detail")
            what = f"{event} {detail}" if detail else event
            message = f"made the process that read it do something else ({shown(what)}), which was stopped."
            remedy = "Do not use it before you know why; ask for a safetensors copy."
        case "not_tensors":
            what = outcome.text("what")
            inner = f"{shown(what)[1:-1]} {name}" if "name" in outcome.fields else shown(what)[1:-1]
            message, remedy = f"is not a dictionary of tensors by name: it holds {inner}.", _FLAT
        case "unsupported":
            message = f"holds {name}, which {shown(outcome.text('what'))[1:-1]}."
            remedy = "Save it without this tensor, or as a plain one."
        case "input_error":
            message, remedy = f"was not converted: it {shown(outcome.text('text'))[1:-1]}", ""
        case "unreadable":
            kind, text = outcome.text("kind"), shown(outcome.text("text"))
            message = f"is no file of torch.save, or a damaged one ({shown(kind)[1:-1]}: {text})."
            remedy = "Take a fresh copy."
        case _:
            pass
    return InputError(str(path), message, remedy)


def _crashed(path: Path, outcome: Outcome) -> InputError:
    if outcome.signal == getattr(signal, "SIGXCPU", -1):
        return InputError(str(path), "takes longer than unpickling may take.", _COPY)
    how = "ended without a word"
    if outcome.signal:
        known = outcome.signal in {one.value for one in signal.Signals}
        how = f"was ended by {signal.Signals(outcome.signal).name if known else f'signal {outcome.signal}'}"
    return InputError(str(path), f"was not converted: the process that read it {how}.", _COPY)


def _without_torch(path: Path, outcome: Outcome) -> InputError:
    match outcome.name:
        case "no_torch" if outcome.text("name") == "torch":
            return InputError(str(path), "is pickled, and to read it torch must be installed.", _INSTALL)
        case "old_torch":
            message = f"is not read by torch {shown(outcome.text('version'))[1:-1]}: before 2.6 a pickle can get around"
            return InputError(str(path), f"{message} weights_only=True.", _INSTALL)
        case "never_ready":
            message = f"was not read: importing torch took longer than {START_SECONDS:g} seconds."
            return InputError(str(path), message, "Try again; the disk may be slow.")
        case _:
            said = shown(outcome.text("text") or f"no module {outcome.text('name')}")
            return InputError(str(path), f"was not read: torch cannot be used safely here ({said}).", _INSTALL)
