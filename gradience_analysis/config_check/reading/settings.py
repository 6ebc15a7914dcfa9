"""The entries of a file to settings with canonical names, and the keys that mean nothing here."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from gradience_analysis.config_check.keys import ALIASES, NUMBERS, OPAQUE, SECTIONS, canonical
from gradience_analysis.config_check.library_keys import ADAPTER, EARLIER_TRAINING, TRAINING
from gradience_analysis.config_check.subject import Setting, UnknownKey
from gradience_analysis.sources.plain import Unquoted

# PyYAML takes a number with an exponent for one only when it has a point and a sign of the exponent.
_EXPONENT = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d{1,3}")
_NULLS = frozenset({"none", "nil", "n/a"})
_LEVELS = 4
_MOST_SLIPS = 200
_LENGTHS = ("training.max_steps", "training.epochs")
_LORA_CORE = ("lora.r", "lora.alpha")


class Kind(StrEnum):
    """What a file is: it decides which keys are known, and what a null says."""

    CONFIG = "configuration"
    ADAPTER = "adapter_config.json"
    TRAINING = "training_args.json"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source says.

    Attributes:
        source: The file, or that it is the flags.
        settings: Its settings by canonical name.
        shadowed: Settings that it has again under another name, with another value.
        unknown: Its keys that mean nothing here.
    """

    source: str
    settings: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    shadowed: tuple[Setting, ...] = ()
    unknown: tuple[UnknownKey, ...] = ()


def read_settings(entries: Mapping[str, Any], source: str, kind: Kind = Kind.CONFIG) -> Reading:
    """The settings among the entries of a file, whether flat or nested in sections.

    Args:
        entries: The file's content.
        source: What the file is called.
        kind: What the file is.
    """
    found = _Found(source, kind)
    found.walk(_unwrapped(entries), "", "", 0)
    return found.reading()


@functools.cache
def known_names(kind: Kind) -> frozenset[str]:
    """Every name that means something in a file of that kind."""
    if kind is Kind.ADAPTER:
        return ADAPTER | {"alpha"}
    if kind is Kind.TRAINING:
        return TRAINING | EARLIER_TRAINING
    names = {name for several in ALIASES.values() for name in several} | set(OPAQUE) | set(SECTIONS)
    return frozenset(names | {key.rpartition(".")[2] for key in ALIASES} | TRAINING | EARLIER_TRAINING | ADAPTER)


def _unwrapped(entries: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration itself, where the entries are those of a run_start or hold it under `config`."""
    inner = entries.get("config")
    if isinstance(inner, dict) and not any(canonical(name, "") for name in entries):
        return cast("dict[str, Any]", inner)
    return entries


class _Found:
    """Settings collected so far, each with the place of its name among the names of that setting."""

    def __init__(self, source: str, kind: Kind) -> None:
        self._source = source
        self._kind = kind
        self._settings: dict[str, tuple[int, Setting]] = {}
        self._shadowed: list[Setting] = []
        self._unknown: list[UnknownKey] = []

    def walk(self, entries: Mapping[str, Any], room: str, path: str, level: int) -> None:
        """Take in the entries of one section.

        Args:
            entries: They.
            room: Room of the canonical names that the section stands for; empty at the top.
            path: Its name in the file with a dot at its end; empty at the top.
            level: How deep it stands.
        """
        for written, value in entries.items():
            name = written.replace("-", "_")
            known = canonical(name, room)
            if isinstance(value, dict) and name in SECTIONS and level < _LEVELS and self._kind is Kind.CONFIG:
                self.walk(cast("dict[str, Any]", value), SECTIONS[name], f"{path}{written}.", level + 1)
            elif name == "extras" and isinstance(value, dict):
                self._extras(cast("dict[str, Any]", value), room, path)
            elif known is not None:
                self._add(known, written, path, value, by_contract=(f"{room}.{name}" if room else name) in ALIASES)
            elif name in known_names(self._kind) or (room and name in OPAQUE):
                self._library(name, written, path, value)
            else:
                self._add_unknown(name, f"{path}{written}")

    def reading(self) -> Reading:
        """What was found."""
        settings = {key: setting for key, (_, setting) in self._settings.items()}
        self._drop_unset(settings)
        return Reading(self._source, settings, tuple(self._shadowed), tuple(self._unknown))

    def _extras(self, extras: Mapping[str, Any], room: str, path: str) -> None:
        """Values that a recorded configuration keeps aside: of the wrong type, or beside the contract."""
        for written, value in extras.items():
            known = canonical(written, room)
            if known is not None and value is not None:
                self._add((known[0], known[1] + 100), written, f"{path}extras.", value, by_contract=False)

    def _add(self, known: tuple[str, int], written: str, path: str, value: Any, *, by_contract: bool) -> None:
        key, place = known
        if value is None and by_contract and key not in {"optimizer.lr", *_LORA_CORE}:
            return  # null says "not known" in the contract's own layout
        name = f"{path}{written}"
        meant, remark = _understood(key, value)
        new = Setting(key, meant, _plain(value), name, self._source, remark)
        if key not in self._settings:
            self._settings[key] = (place, new)
            return
        rank, held = self._settings[key]
        if (place < rank and new.value is not None) or held.value is None:
            self._settings[key] = (place, new)
            new, held = held, new
        if new.value is not None and new.value != held.value:
            self._shadowed.append(new)

    def _add_unknown(self, name: str, shown: str) -> None:
        # To hold each of many thousand keys against every known one would take minutes.
        meant = _meant(name, self._kind) if len(self._unknown) < _MOST_SLIPS else ""
        self._unknown.append(UnknownKey(shown, self._source, meant))

    def _library(self, name: str, written: str, path: str, value: Any) -> None:
        """A setting of a library that no check of ours names; others may look at it under the library's name."""
        room = "lora" if name in ADAPTER else "training" if name in TRAINING else ""
        key = f"{room}.{name}"
        if room and value is not None and key not in self._settings:
            self._settings[key] = (0, Setting(key, _plain(value), _plain(value), f"{path}{written}", self._source))

    def _drop_unset(self, settings: dict[str, Setting]) -> None:
        """Leave out nulls that say no more than that a thing is not used."""
        if self._kind is Kind.CONFIG:
            for key, other in (_LENGTHS, _LENGTHS[::-1]):
                decides = settings.get(other)
                if key in settings and settings[key].value is None and decides and decides.value is not None:
                    del settings[key]
        lora = [setting for key, setting in settings.items() if key in {*_LORA_CORE, "lora.target_modules"}]
        if not any(setting.value for setting in lora) and all(setting.name.startswith("lora.") for setting in lora):
            for key in ("lora.target_modules", *_LORA_CORE):
                if key in settings and settings[key].value in (None, []):
                    del settings[key]


def _understood(key: str, value: Any) -> tuple[Any, str]:
    """What a value is meant to be, with a remark where it is not that as it stands."""
    if isinstance(value, Unquoted) and key in NUMBERS:
        if _EXPONENT.fullmatch(value):
            return float(value.replace("_", "")), f"{value} without quotes is a text to YAML 1.1; read as a number"
        if value.lower() in _NULLS:
            return None, f"{value} is a text to YAML; read as null"
    return _plain(value), ""


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Unquoted) else value


def _meant(name: str, kind: Kind) -> str:
    from gradience_analysis.config_check.reading.slips import meant

    return meant(name, known_names(kind))


def flags(given: Mapping[str, tuple[str, Any]]) -> Iterator[Setting]:
    """Settings that were given on the command line.

    Args:
        given: Canonical name → the flag, and its value; None when it was not given.
    """
    for key, (flag, value) in given.items():
        if value is not None:
            yield Setting(key, value, value, flag, "the command line")
