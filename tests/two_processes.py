"""
Scripts in two processes that train together.

They are started as `torchrun --nproc_per_node 2` starts them, or by torchrun itself, which is one more process.

Processes that wait for each other may do so for good, and then nobody knows where. So each of them, and each that it
forks, has an alarm set: it says where all of its threads are, and ends. Ten minutes are far beyond what any of them
takes.
"""

import faulthandler
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
ROOT = Path(__file__).parent.parent
HANGS_AFTER = 600  # seconds


def run_in_two_processes(script: Path, *argv: str) -> None:
    """Runs a script with its arguments. Fails, with what was printed to the end, if a process does."""
    with socket.socket() as one:
        one.bind((HOST, 0))  # a port that nobody has
        common = {"MASTER_ADDR": HOST, "MASTER_PORT": str(one.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = [{"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2", **common} for rank in "01"]
    _run_all([[__file__, str(script), *argv]] * 2, ranks)


def run_with_torchrun(script: Path, *argv: str) -> None:
    """The same through torchrun."""
    # A host's name need not lead anywhere, and would be asked for.
    launcher = ["torch.distributed.run", "--standalone", "--local_addr", HOST, "--nproc_per_node", "2"]
    _run_all([[__file__, *launcher, __file__, str(script), *argv]], [{}])


def _run_all(commands: list[list[str]], environments: list[dict[str, str]]) -> None:
    """Runs Python with each of these arguments and variables, all at once, until all end or one fails."""
    usual = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # Into a file: the end of a pipe comes only when the last process that ever had it has let go of it.
    with tempfile.TemporaryFile("w+") as output:
        options: dict[str, Any] = {"stdout": output, "stderr": output, "cwd": ROOT}
        processes = [
            subprocess.Popen([sys.executable, *command], env={**usual, **own}, **options)
            for command, own in zip(commands, environments, strict=True)
        ]
        try:
            while (codes := [one.poll() for one in processes]).count(None) and not any(codes):
                time.sleep(0.05)
        finally:
            for process in processes:
                process.kill()  # it would wait for the one that has failed; one that has ended does not mind
                process.wait()
        output.seek(0)
        assert codes == [0] * len(codes), output.read()[-10_000:]


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
