"""A simulated Pod on one's own machine: no GPU, no account."""
