"""Import paths by contract version: `vnext` holds what reads and writes telemetry/v1."""
