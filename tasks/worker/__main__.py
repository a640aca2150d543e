"""Run `train SPEC` or `score SPEC`; end at once when the process that started this one is gone."""

import os
import select
import sys
import threading
from pathlib import Path

from tasks.worker.scoring import score
from tasks.worker.spec import ScoreSpec, TrainSpec
from tasks.worker.training import train


def main(command: str, spec: str) -> None:
    """Do the one thing that the spec describes."""
    watched = [0] if os.environ.get("EKIBEN_WATCH_STDIN") else []
    if watched or "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_end_with_parent, args=(watched,), daemon=True).start()
    if command == "train":
        train(TrainSpec.read(Path(spec)))
    elif command == "score":
        score(ScoreSpec.read(Path(spec)))
    else:
        raise SystemExit(f"unknown command {command!r}; expected train or score")


def _end_with_parent(watched: list[int]) -> None:
    """Wait until the parent dies, even by -9, or standard input closes because its parent died."""
    parent = os.getppid()
    while os.getppid() == parent:
        # Not sys.stdin, whose lock would be held when the interpreter ends.
        if select.select(watched, [], [], 1.0)[0] and not os.read(0, 1):
            break
    os._exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:3])
