"""The decision, pure: the idle clock, what beats evidence, what people must hear about."""
