"""The process next to the trainer in which vLLM samples."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

import llmrl
from llmrl.policies.sampling import wire
from llmrl.policies.sampling.servers import Address

LAUNCHER = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"}
"""Variables that a launcher sets for its processes; an engine is not one of them."""


class Child:
    """A child process in which vLLM samples, with a socket in a folder that only this account can enter."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.address = Address("http://engine", folder / "socket")
        self.token = secrets.token_hex(32)
        self._folder = folder
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, and end an earlier one."""
        self.end()
        assert self.address.socket is not None  # by its construction
        self.address.socket.unlink(missing_ok=True)
        source = str(Path(llmrl.__file__).parents[1])
        kept = {k: v for k, v in os.environ.items() if k not in LAUNCHER and not k.startswith("TORCHELASTIC_")}
        environment = {
            **kept,
            **self._environment,
            "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            wire.TOKEN_VARIABLE: self.token,
        }
        # The socket is made here and inherited: requests wait in it until the process is ready.
        with socket.socket(socket.AF_UNIX) as listener, (self._folder / "log").open("wb") as output:
            listener.bind(str(self.address.socket))
            listener.listen()
            number = str(listener.fileno())
            module = "llmrl.policies.sampling.serve"
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "--fd", number, "--inbox", str(self._folder)],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,  # closed when this process ends for any reason; the child then ends too
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C must reach only the trainer, which finishes its step first
            )

    def end(self) -> None:
        """End the process; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def last_words(self) -> str:
        """The last line that the process wrote."""
        lines = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        return wire.plain(lines[-1]) if lines else "it said nothing"


def own_gpu() -> dict[str, str]:
    """Environment variables with which a process sees only the GPU of this rank."""
    if not torch.cuda.is_available():
        return {}
    here = torch.cuda.current_device()
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": str(here) if seen is None else seen.split(",")[here]}
