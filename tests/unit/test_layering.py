"""The house keeps its order: who imports whom, heavy libraries behind one door, short functions."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packages_at_hand import declared, installed

from configs.schema import Data
from tasks.requirements import MODULES_OF, serving_requirements, serving_roots

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ("configs", "tasks", "flows", "bentos")
MODULES = {
    str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8"))
    for folder in HOUSE
    for file in sorted((ROOT / folder).rglob("*.py"))
}
LONGEST_FUNCTION = 60
LONGEST_MODULE = 350
LONGER_MODULES = {
    "configs/schema.py": 800,  # every field of the config with its description
    "tasks/manifests.py": 530,  # all that the stages hand to one another
}


@dataclass(frozen=True)
class Import:
    """One import: the module that imports, what it imports from, and the names it takes."""

    by: str
    module: str
    names: tuple[str, ...]

    @property
    def top(self) -> str:
        """Return the top-level package."""
        return self.module.partition(".")[0]


def imports_of(file: str, *, at_once: bool = False) -> Iterator[Import]:
    """Yield every import of a module, wherever in it, or those at its top alone."""
    for node in MODULES[file].body if at_once else ast.walk(MODULES[file]):
        if isinstance(node, ast.Import):
            yield from (Import(file, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            names = tuple(alias.name for alias in node.names)
            yield Import(file, f"{dots}{node.module or ''}", names)


IMPORTS = [found for file in MODULES for found in imports_of(file)]


def test_the_whole_house_is_looked_at() -> None:
    assert len(MODULES) > 40
    assert {found.top for found in IMPORTS} > {"configs", "tasks", "flows", "torch", "prefect"}


@pytest.mark.parametrize(
    ("folder", "may"),
    [
        ("flows", {"flows", "tasks", "configs"}),
        ("tasks", {"tasks", "configs"}),
        ("configs", {"configs"}),
        ("bentos", set()),
    ],
)
def test_imports_go_from_flows_to_tasks_to_configs_and_no_other_way(
    folder: str, may: set[str]
) -> None:
    wrong = [
        found
        for found in IMPORTS
        if found.by.startswith(f"{folder}/") and found.top in {*HOUSE, "tests", "benchmarks", ""}
        if found.top not in may
    ]
    assert wrong == []


def test_nothing_is_imported_by_a_name_that_only_running_tells() -> None:
    called = {
        (file, ast.unparse(node.func))
        for file, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    named = [
        (file, name) for file, name in called if name.endswith(("import_module", "__import__"))
    ]
    assert named == []


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("great_expectations", ("tasks/expectations.py", "tasks/suites.py")),
        ("bentoml", ("bentos/",)),  # building and proving start it as a command
        ("prefect", ("flows/", "tasks/")),
        ("sklearn", ("tasks/baseline.py", "tasks/metrics/")),
        ("evaluate", ("tasks/figures.py", "tasks/metrics/")),
        ("sqlalchemy", ("tasks/queries.py",)),
        ("matplotlib", ("tasks/plots.py",)),
        ("mlflow", ("tasks/course.py",)),
        ("wandb", ("tasks/course.py",)),
        ("codecarbon", ("tasks/energy.py",)),
        ("openvino", ("tasks/packed.py", "tasks/exporting.py", "bentos/text_classifier/packed.py")),
        ("nncf", ("tasks/exporting.py",)),
        ("model_signing", ("tasks/signing.py", "bentos/text_classifier/signing.py")),
    ],
)
def test_a_heavy_library_has_its_door(library: str, doors: tuple[str, ...]) -> None:
    users = {found.by for found in IMPORTS if found.top == library}
    assert users
    assert {user for user in users if not user.startswith(doors)} == set()


def test_a_task_takes_of_prefect_only_the_task_line() -> None:
    taken = {
        (found.module, name)
        for found in IMPORTS
        if found.by.startswith("tasks/") and found.top == "prefect"
        for name in found.names or ("the whole module",)
    }
    assert taken == {("prefect", "task"), ("prefect.cache_policies", "NO_CACHE")}


def test_the_worker_imports_torch_transformers_safetensors_numpy_and_itself() -> None:
    worker = [found for found in IMPORTS if found.by.startswith("tasks/worker/")]
    outside = {
        found
        for found in worker
        if found.top not in sys.stdlib_module_names and not found.module.startswith("tasks.worker.")
    }
    extra = {(found.by, found.top) for found in outside if found.top in ("peft", "bitsandbytes")}
    tops = {found.top for found in outside} - {top for _, top in extra}
    assert tops == {"torch", "transformers", "safetensors", "numpy"}
    assert extra == {
        ("tasks/worker/adapters.py", "peft"),
        ("tasks/worker/optimizing.py", "bitsandbytes"),
    }
    at_once = {found.top for by, _ in extra for found in imports_of(by, at_once=True)}
    assert "torch" in at_once
    assert not at_once & {top for _, top in extra}


def third_party(folders: tuple[str, ...], without: tuple[str, ...] = ()) -> set[str]:
    """Return the top-level packages from elsewhere that modules in the folders import."""
    found = {
        found.top
        for found in IMPORTS
        if found.by.startswith(folders) and not found.by.endswith(without)
    }
    own = {Path(file).stem for file in MODULES if file.startswith("bentos/")}  # side by side there
    return found - set(sys.stdlib_module_names) - set(HOUSE) - own


def test_what_is_imported_is_declared() -> None:
    known = declared()
    tops = third_party(("configs/", "tasks/", "flows/"))
    assert {top for top in tops if not installed().get(top, set()) & known} == set()


@pytest.mark.parametrize("kind", list(MODULES_OF))
def test_a_bento_requires_what_its_service_imports(kind: str) -> None:
    everything = Data.model_validate(
        {
            "uri": "rows.csv",
            "labels": ["ham", "spam"],
            "cleaning": {"chinese": "simplified", "pinyin": True},
            "privacy": {"mask": ["card", "phone"]},
        }
    )
    lines = serving_requirements(serving_roots(everything, kind, signed=True))
    required = {line.partition("==")[0] for line in lines}
    others = {name for names in MODULES_OF.values() for name in names} - {*MODULES_OF[kind]}
    tops = third_party(("bentos/",), without=tuple(f"/{name}" for name in others))
    assert ("torch" in tops) == (kind == "transformer")
    assert {top for top in tops if not installed().get(top, set()) & required} == set()


WHAT_A_PLAIN_PIPELINE_LOADS = """
import sys
from configs.schema import Cleaning, Privacy
from tasks.cleaning import clean
from tasks.privacy import mask

mask(clean("mail a@b.example", Cleaning().model_dump()), Privacy().model_dump())
optional = {"opencc", "phonenumbers", "pypinyin", "rjieba", "stdnum", "stopwordsiso"}
print(sorted(optional & set(sys.modules)))
"""


def test_a_pipeline_that_neither_masks_nor_converts_loads_no_library_for_it() -> None:
    command = [sys.executable, "-c", WHAT_A_PLAIN_PIPELINE_LOADS]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout == "[]\n"


def test_no_function_is_long() -> None:
    long = {
        f"{file}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for file, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FUNCTION} == {}


def test_no_module_is_long() -> None:
    lines = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in MODULES}
    too_long = {
        file: count
        for file, count in lines.items()
        if count > LONGER_MODULES.get(file, LONGEST_MODULE)
    }
    assert too_long == {}
