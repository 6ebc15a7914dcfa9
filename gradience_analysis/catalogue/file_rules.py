"""Rules about files and their integrity."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_schema import Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "Q01",
        Category.FILE,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "path_not_regular",
        "A path is a symlink, FIFO, device or directory where a regular file is wanted.",
        "Use the path of a regular file.",
    ),
    Rule(
        "Q02",
        Category.FILE,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "torn_tail",
        "The last line has no newline: its write was torn, and one event is lost.",
        "Nothing to do; look for a kill.",
    ),
    Rule(
        "Q03",
        Category.FILE,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "malformed_line",
        "A line before the end cannot be read.",
        "Look for two writers of one file, or a damaged disk.",
    ),
    Rule(
        "Q04",
        Category.FILE,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "events_missing",
        "The sequence of events has a gap or a repeat.",
        "Know that these events are lost.",
    ),
    Rule(
        "Q05",
        Category.FILE,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "mixed_runs",
        "Several runs stand in one segment.",
        "One writer a segment.",
    ),
    Rule(
        "Q06",
        Category.FILE,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "line_too_long",
        "A line is longer than 1 MiB.",
        "Log no raw text and no tensors.",
    ),
    Rule(
        "Q07",
        Category.FILE,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "wrong_encoding",
        "The file starts with a byte order mark, is UTF-16, is compressed, or holds a block of NUL bytes.",
        "Encode it again, or decompress it.",
    ),
    Rule(
        "Q08",
        Category.FILE,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "registry_path_unsafe",
        "A name or path leaves the registry's root, or is a symlink.",
        "Use a plain name.",
    ),
    Rule(
        "Q09",
        Category.FILE,
        (Stage.AUDIT,),
        (Severity.ERROR,),
        "digest_mismatch",
        "The SHA-256 of a file is not the one on record.",
        "Do not serve it; restore the copy.",
    ),
    Rule(
        "Q10",
        Category.FILE,
        (Stage.AUDIT,),
        (Severity.WARNING,),
        "weights_ambiguous",
        "Weights stand there as safetensors and as a pickle, or a shard is missing.",
        "Keep one of them; restore the shard.",
    ),
)
