"""
The GPUs: a child process that owns the driver's library, and the daemon's end of its pipe.

NVML can hang for minutes in a call that nothing ends, and can crash the process that loaded it. So `child` alone
loads it (with `nvml`, `meter`, `card`, `mig`, `samples`, `words`; `amd` where there is no NVIDIA driver), and the
daemon reads one line of JSON a poll through `reader` and `line`. `merge` makes one set of facts of the lines of a
tick; `floor` knows what an idle GPU of this Pod draws; `judge` holds what is said of one GPU, `suspicion` that it may
hang, `unseen` why it was not seen, and `holders` proves by open files that nobody uses a GPU that can't be read.
"""

REOPEN = 3
"""The child's exit code for "my last line says why; start a fresh one, since only that loads another library"."""

UTILIZATION = "utilization"
ENGINES = ("encoder", "decoder", "jpeg", "ofa")
"""Engines that GPU utilization leaves out."""
METRICS = (UTILIZATION, *ENGINES, "energy", "power", "memory", "processes")
"""What is asked of every GPU; those that gave nothing stand in `not_readable` with the reason."""
