"""Embedded tasks: data sets made by code, so that a run needs no download."""
