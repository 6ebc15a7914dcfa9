"""The training harness: small models and tasks that run offline, and the demo built from them."""
