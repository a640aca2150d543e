"""Run a few lines of Python beside the packaged service, in a process of their own."""

import subprocess
import sys
from pathlib import Path

from configs.errors import BentoError
from tasks.process import environment_with, last_lines


def run_beside(service: Path, code: str, argument: Path) -> str:
    """Return what the code prints, run in the service's folder so that it can import its engine.

    Raises:
        BentoError: if it ends with another code than 0, with the end of what it said.
    """
    ended = subprocess.run(
        [sys.executable, "-c", code, str(argument)],
        capture_output=True,
        text=True,
        check=False,
        cwd=service,
        env=environment_with(PYTHONDONTWRITEBYTECODE="1"),
    )
    if ended.returncode != 0:
        raise BentoError(
            f"the packaged engine ended with code {ended.returncode}: {last_lines(ended.stderr)}"
        )
    return ended.stdout
