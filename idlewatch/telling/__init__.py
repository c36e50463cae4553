"""Telling people: what is said when, how to keep the Pod, the next login, a sign of life."""
