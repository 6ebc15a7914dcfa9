"""The `gradience` command line: parse, build, report, render."""
