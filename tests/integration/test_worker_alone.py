"""The worker imports with torch, transformers, safetensors, numpy and the standard library alone."""

import ast
import subprocess
import sys
from pathlib import Path

from packages_at_hand import declared, installed

ROOT = Path(__file__).resolve().parents[2]
WORKER_ALONE = """
import sys

FORBIDDEN = set(sys.argv[1:])

class Without:
    "A finder that does not find the forbidden packages."
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *others):
        forbidden = name.partition(".")[0] in FORBIDDEN
        return None if forbidden else self.finder.find_spec(name, *others)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
for name in FORBIDDEN:
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} could be imported all the same")

import tasks.worker.__main__
print(sorted(name for name in sys.modules if name.partition(".")[0] == "tasks"))
"""


def test_the_worker_imports_without_any_other_library() -> None:
    allowed = {"torch", "transformers", "safetensors", "numpy"}
    theirs = {"filelock", "huggingface-hub", "packaging", "pyyaml"}  # transformers needs them
    forbidden = {
        top for top, names in installed().items() if names & declared() - allowed - theirs
    } | {"accelerate"}
    assert forbidden > {"prefect", "bentoml", "great_expectations", "datasets", "evaluate"}
    assert forbidden > {"pandas", "pyarrow", "sklearn", "scipy", "pydantic"}
    assert forbidden > {"peft", "bitsandbytes", "accelerate"}
    command = [sys.executable, "-c", WORKER_ALONE, *sorted(forbidden)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "tasks" / "worker").rglob("*.py")
    }
    assert ast.literal_eval(ended.stdout) == sorted(modules | {"tasks"})
