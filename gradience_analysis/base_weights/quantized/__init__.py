"""Packed weights of a base model, by the scheme they are packed with: one module each, and which of them it is."""
