"""Runs and findings to `Report`: words and blocks; nothing is printed here."""
