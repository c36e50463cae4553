"""
`idlewatch doctor`: proof, beforehand, that a stop will work, and what would keep it from working.

Looking and judging are apart. What may hang (the volume, name lookup, RunPod's API, the driver) is looked at in child
processes (`child`, `looks_*`), all at once and each within a deadline, so that the whole ends within a minute and says
what hung. The judges (`judge_*`) are pure: from what was seen to lines, each with its standing and what would help.

It only reads. `drill` does the end sequence for real up to the stop call, when it is asked to.
"""
