"""Telemetry files as Arrow tables: what one file holds, column by column, exactly as it was written.

Importing a module of this room imports pyarrow; nothing that must start fast may do so at its top.
"""
