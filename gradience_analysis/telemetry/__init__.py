"""Reads telemetry/v1 files: lines, events, cross-line rules, runs."""
