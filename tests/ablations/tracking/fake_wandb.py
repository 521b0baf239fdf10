"""W&B without its server: what the projection uses of it, and what its offline files hold."""

from __future__ import annotations

from tests.ablations.tracking.wandb_file import read_run


class FakeRun:
    def __init__(self, log):
        self.log_ = log
        self.summary = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log_.append(("summary", dict(self.summary)))

    def define_metric(self, *_, **__):
        pass

    def log(self, row, step=None):
        self.log_.append(("log", step, row))


class FakeWandb:
    """What the projection uses of wandb, for modes that need a server or a failure."""

    def __init__(self, error=None):
        self.calls = []
        self.error = error

    def init(self, **arguments):
        if self.error:
            raise self.error
        self.calls.append(("init", arguments["id"], arguments["resume"], arguments["mode"]))
        return FakeRun(self.calls)

    def Settings(self, **arguments):  # noqa: N802 - the name in wandb
        return arguments

    def Image(self, path):  # noqa: N802 - the name in wandb
        return path

    def teardown(self):
        self.calls.append(("teardown",))


def offline(folder):
    """Run id to what its only offline file holds."""
    runs = {}
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        run_id = path.stem.removeprefix("run-")
        assert run_id not in runs, f"{run_id} has two offline folders"
        runs[run_id] = read_run(path)
    return runs
