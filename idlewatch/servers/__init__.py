"""
Servers of models: which programs they are, what to ask each, and what their answers count.

    known.KNOWN         the literal table: how each is recognised, where it listens, what to ask, with the sources
    recognise           from a command line to an entry of that table, and to the port that is its own
    counts              from an answer to figures: requests, tokens, what runs
    page                the text format of Prometheus and OpenMetrics
    named               IDLEWATCH_SERVERS: servers that only the owner knows

Pure: nothing here reads the machine or sends anything; `signals/servers.py` does.
"""
