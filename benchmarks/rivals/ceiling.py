"""The engine alone: as many texts as it can classify, by all its threads, in a time.

`python ceiling.py MODEL TEXTS` answers each line `SECONDS` on its input with a line of JSON.
"""

import json
import sys
import threading
import time
from itertools import cycle
from pathlib import Path

from engine import Engine

_TEXTS_A_BATCH = 20


def main(model: Path, texts: list[str]) -> None:
    """Measure whenever asked."""
    engine = Engine(model)
    batches = [
        texts[start : start + _TEXTS_A_BATCH] for start in range(0, len(texts), _TEXTS_A_BATCH)
    ]
    for line in sys.stdin:
        done = [0] * engine.parallel
        ends = time.perf_counter() + float(line)

        def work(number: int, done: list[int] = done, ends: float = ends) -> None:
            for batch in cycle(batches[number :: engine.parallel] or batches):
                if time.perf_counter() >= ends:
                    return
                done[number] += len(engine.classify(batch))

        started, cpu = time.perf_counter(), time.process_time()
        threads = [threading.Thread(target=work, args=(n,)) for n in range(engine.parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = {
            "requests_per_second": sum(done) / (time.perf_counter() - started),
            "cpu_ms": 1000 * (time.process_time() - cpu) / max(sum(done), 1),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
