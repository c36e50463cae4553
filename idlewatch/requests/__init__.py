"""Holds and requests of people and programs, as the daemon reads them."""
