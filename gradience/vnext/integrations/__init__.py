"""Integrations with trainers, one module each."""
