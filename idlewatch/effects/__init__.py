"""Carrying a decision out, or only observing what would be."""
