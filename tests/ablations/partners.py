"""What the processes of one cheap training do with one another: meet for real, and fail as they are told.

``FAKE_PARTNERS`` tells who does what, for example ``1:user,0:wait``: the process of rank 1 raises a UserError, that of
rank 0 waits for the others by torch.distributed. ``sleep`` never ends, ``raise`` is a fault in the code, ``kill`` is a
SIGKILL, ``leave`` ends without a word.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time

from qsd.errors import UserError
from qsd.runtime import StageContext


def several() -> bool:
    """Whether this process has partners."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    return int(os.environ["RANK"])


def meet(context: StageContext) -> None:
    """Sum a number of this very stage over its processes: another job's process among them would show."""
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    mine = int(hashlib.sha256(context.output.name.encode()).hexdigest()[:6], 16)
    total = torch.tensor([mine])
    distributed.all_reduce(total)
    assert total.item() == mine * distributed.get_world_size(), "a process of another job came between"
    print(f"rank {rank()} met its partners", flush=True)


def act() -> None:
    """Do what ``FAKE_PARTNERS`` says."""
    told = dict(part.split(":") for part in os.environ.get("FAKE_PARTNERS", "").split(",") if part)
    what = told.get(str(rank()))
    if what == "user":
        raise UserError(f"rank {rank()} has nothing to train on; give it pairs")
    if what == "raise":
        raise ZeroDivisionError(f"rank {rank()}")
    if what == "wait":
        from torch import distributed

        distributed.barrier()
    if what == "sleep":
        time.sleep(1000)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        sys.stdout.flush()
        os._exit(3)
