"""
What each verb does: asks the state folder or the volume, and says it. Returns whether it is done.

Only `run` watches and only the daemon writes what it watches; the other verbs read its files and drop theirs into
`holds/` and `requests/`.
"""
