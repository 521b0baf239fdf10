"""What the fork server does before it imports the libraries: importing this module does it.

``multiprocessing`` starts the fork server and lets its user only name modules that it shall import, so the module is
imported there first, and nowhere else (``ablations.running.workers``).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ablations.running.process_lifetime import end_with_parent
from ablations.store.provenance import git_state, versions

PROCESS = os.getpid()
"""The process number of the fork server, by which a child that it forks knows whether it is still there."""

# Until it listens, a Ctrl-C at the terminal would end it; the launcher alone gets it, and ends the attempts in order.
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.setsid()
# At once with the launcher, and then the attempts with it. The fork server by itself ends when it sees that the
# launcher's end of a pipe has closed, but then takes its time to unload the libraries.
end_with_parent(os.getppid())
# What an attempt prints before it has a log must not mix with what the launcher prints.
os.dup2(2, 1)
# Both are kept in memory, so the attempts record the code that this process and they have imported.
git_state(Path.cwd())
versions()
