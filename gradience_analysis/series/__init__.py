"""Arithmetic of curves in plain Python, so that a report needs no numpy: medians, spread, slopes."""
