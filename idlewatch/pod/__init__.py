"""Which Pod this is, where its things lie, and what a stop of it would wipe."""
