"""The daemon from its start to its end: the tick, what it knows beside its signals, one daemon a state folder."""
