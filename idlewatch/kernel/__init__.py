"""
The kernel's tables, read once for all signals: processes, TCP sockets, who owns them, pseudo-terminals.

    tables = KernelTables()                 no I/O yet; one object for all signals, made in signals/__init__.py
    now = tables.at(now_s)                  one pass; the same answer to whoever asks within 15 s
      now.at_s                              the instant of the pass; figures are differenced by it, not by now_s
      now.processes                         ProcessTable
        .by_pid[pid], .get(pid), iteration  Process: pid parent session terminal comm state started_s key
                                            cpu_s waited_cpu_s io (Io or None where denied) in_foreground
        .children(pid) .descendants(pid) .ancestors(pid) .is_below(pid, ancestor)
        .own                                PIDs of idlewatch's own tree, adopted orphans left out
        .command(pid)                       its command line as words, () where there is none
        .user_id(pid), .hides
      now.sockets                           SocketTable; raises SignalError where it could not be read
        iteration, .established() .listening() .accepted() .by_inode(), .without_bytes
                                            Socket: state local remote inode user_id send_queue receive_queue
                                            retransmits bytes_acked bytes_received unacked data_received_ago_s …
      now.owners_of(*inodes)                inode -> PIDs; dear (every /proc/PID/fd) for inodes not known before
      now.sockets_of(pid)                   inodes of one process's sockets; cheap; None where denied
    tables.terminals(now_s)                 Terminal: name number user_id opened_s input_s leader; as they are now;
                                            a new one causes a pass, so ask before `at` where both are wanted
    tables.sockets_now(now_s)               SocketTable as it is now, unless there are many sockets

Nothing here judges. Instants are CLOCK_BOOTTIME seconds; what could not be read is None or SignalError, never 0.
"""

from __future__ import annotations

from idlewatch.kernel.processes import Io, Key, Process, ProcessTable
from idlewatch.kernel.sockets import Endpoint, Socket, SocketState, SocketTable
from idlewatch.kernel.tables import PERIOD_S, KernelTables, Tables
from idlewatch.kernel.terminals import Terminal

__all__ = [
    "PERIOD_S",
    "Endpoint",
    "Io",
    "KernelTables",
    "Key",
    "Process",
    "ProcessTable",
    "Socket",
    "SocketState",
    "SocketTable",
    "Tables",
    "Terminal",
]
