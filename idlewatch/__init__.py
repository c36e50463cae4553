"""Stops the GPU Pod that nobody uses, saves what the stop would wipe, and proves that it stopped."""

__version__ = "0.1.0"
