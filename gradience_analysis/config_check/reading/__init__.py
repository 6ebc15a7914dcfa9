"""Files of settings to settings: bytes to values, names to canonical ones, several sources to one configuration."""
