"""Carrying a decision out: slow effects in child processes, and what each of them does."""
