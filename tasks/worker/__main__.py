"""Run `train SPEC` or `score SPEC`; end at once when the process that started this one is gone."""

import os
import sys
import threading
from pathlib import Path

from tasks.worker.scoring import score
from tasks.worker.spec import ScoreSpec, TrainSpec
from tasks.worker.training import train


def main(command: str, spec: str) -> None:
    """Do the one thing that the spec describes."""
    if os.environ.get("EKIBEN_WATCH_STDIN"):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if command == "train":
        train(TrainSpec.read(Path(spec)))
    elif command == "score":
        score(ScoreSpec.read(Path(spec)))
    else:
        raise SystemExit(f"unknown command {command!r}; expected train or score")


def _end_with_parent() -> None:
    """Wait for standard input to close, which the kernel does when the parent dies, even by -9."""
    while os.read(0, 1):  # not sys.stdin, whose lock would be held when the interpreter ends
        pass
    os._exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:3])
