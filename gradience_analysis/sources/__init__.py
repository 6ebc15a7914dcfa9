"""Bytes of a file to lines, and of a line to a JSON value: what every reader of training logs stands on."""
