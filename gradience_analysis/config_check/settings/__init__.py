"""Checks of the settings alone, one file each."""
