"""
Scripts in two processes that train together, as `torchrun --nproc_per_node 2` starts them.

Processes that wait for each other may do so for good, and then nobody knows where. So each of them, and each that it
forks, has an alarm set: it says where all of its threads are, and ends. Ten minutes are far beyond what any of them
takes.
"""

import faulthandler
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
HANGS_AFTER = 600  # seconds


def run_in_two_processes(script: Path, *argv: str) -> None:
    """Runs a script with its arguments. Fails, with what was printed to the end, if a process does."""
    # A host's name need not lead anywhere, and would be asked for.
    launcher = ["torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1", "--nproc_per_node", "2"]
    command = [sys.executable, __file__, *launcher, __file__, str(script), *argv]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # Into a file: the end of a pipe comes only when the last process that ever had it has let go of it.
    with tempfile.TemporaryFile("w+") as output:
        outcome = subprocess.run(command, check=False, env=environment, stdout=output, stderr=output, cwd=ROOT)
        output.seek(0)
        assert outcome.returncode == 0, output.read()[-10_000:]


def _set_alarm() -> None:
    signal.alarm(HANGS_AFTER)


def _run(name: str) -> None:
    if name.endswith(".py"):
        _set_alarm()
        os.register_at_fork(after_in_child=_set_alarm)
        runpy.run_path(name, run_name="__main__")
    else:
        signal.alarm(HANGS_AFTER + 60)  # the launcher outlives the others, and tells of them
        runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
    sys.argv = sys.argv[1:]
    _run(sys.argv[0])
