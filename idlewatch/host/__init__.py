"""
Fitting idlewatch into a machine: as the container's command, as a service, into a stock image's start hooks.

What stays in memory beside the daemon (`exec_command`, `beside`) imports the standard library only.
"""
