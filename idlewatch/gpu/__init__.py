"""
The GPUs: a child process that owns NVML, and the daemon's end of its pipe.

NVML can hang for minutes in a call that nothing ends, and can crash the process that loaded it. So `child` alone
loads it (with `nvml` and `samples`), and the daemon reads one line of JSON a poll through `reader` and `line`.
`merge` makes one set of facts of the lines of a tick; `floor` knows what an idle GPU of this Pod draws; `judge`
holds what is said of one GPU.
"""

REOPEN = 3
"""The child's exit code for "my last line says why; start a fresh one, since only that loads another library"."""
