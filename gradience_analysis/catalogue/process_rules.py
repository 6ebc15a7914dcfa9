"""Rules about processes, disks and clocks."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_schema import Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "P01",
        Category.PROCESS,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "output_not_writable",
        "A file cannot be written, synced and removed in the output folder.",
        "Fix the permissions.",
    ),
    Rule(
        "P02",
        Category.PROCESS,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "disk_low",
        "The free disk space is too small for the checkpoints.",
        "Clean up, or keep fewer checkpoints.",
    ),
    Rule(
        "P03",
        Category.PROCESS,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "network_file_system",
        "The output folder is on a network file system.",
        "Write one file a rank, or to a local disk first.",
    ),
    Rule(
        "P04",
        Category.PROCESS,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "run_silent",
        "The run has no end, and has written nothing for much longer than before.",
        "Look for a hang: collectives, data loading, disk.",
    ),
    Rule(
        "P05",
        Category.PROCESS,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "run_crashed",
        "The run has no end, and its process is gone.",
        "Mark it as crashed, and resume it.",
    ),
    Rule(
        "P06",
        Category.PROCESS,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "run_locked",
        "Another live process holds the run.",
        "Use a new run id, or stop the other process.",
    ),
    Rule(
        "P07",
        Category.PROCESS,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "ranks_missing",
        "There are not as many ranks in the telemetry as the run has.",
        "Look at the missing ranks.",
    ),
    Rule(
        "P08",
        Category.PROCESS,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "clock_jump",
        "The time stamps go back, or jump far ahead.",
        "Fix the clock; the order is that of seq.",
    ),
    Rule(
        "P09",
        Category.PROCESS,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "versions_untested",
        "A library or driver is outside the range this was tested with.",
        "Pin the versions.",
    ),
    Rule(
        "P10",
        Category.PROCESS,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "host_memory_high",
        "The host's memory comes close to its limit, or a worker died.",
        "Fewer workers, or more memory.",
    ),
)
