"""What several importers share: rows of foreign names and types to fields that telemetry/v1 accepts."""
