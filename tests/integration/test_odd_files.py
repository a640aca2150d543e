"""Files as odd as they come: each is read exactly as stated, or refused in one line with a cure."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from odd_files import (
    SECRET,
    OddFile,
    Pair,
    configs,
    encodings,
    json_lines,
    large,
    parquet_files,
    places,
    queries,
    tables,
    texts,
)

from configs.errors import EkibenError
from configs.loading import load_config
from configs.schema import Data
from flows.cli import LONGEST_PROBLEM
from tasks.ingest import read_dataset

ROOT = Path(__file__).resolve().parents[2]
FEWEST = 300
DATA = list(
    chain(
        encodings.encodings(), encodings.wrong_encodings(), texts.literals(), texts.characters(),
        tables.line_ends(), tables.quotes(), tables.ragged(), tables.headers(), tables.delimiters(),
        json_lines.accepted(), json_lines.not_json(), json_lines.not_rows(),
        parquet_files.types(), parquet_files.shapes(), parquet_files.bombs(),
        parquet_files.damaged(), parquet_files.foreign(), places.files(), places.folders(),
        places.lines(), queries.queries(),
    )
)  # fmt: skip
CONFIGS = list(configs.configs())
LARGE = list(large.large())
MOST_MEMORY = 512 * 1024 * 1024
# Say the problem, and by how many bytes the memory grew at most.
READ_ALONE = """
import json, sys
from pathlib import Path
import pyarrow.compute, pyarrow.parquet
from configs.errors import DataError
from configs.schema import Data
from tasks.reading import read_rows

def most():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

data = Data.model_validate_json(sys.argv[1])
before = most()
try:
    problem = sum(1 for _ in read_rows(Path(data.uri), data))
except DataError as error:
    (problem,) = error.problems
print(json.dumps([problem, most() - before]))
"""


def put(file: OddFile, folder: Path) -> Path:
    """Put an odd file into a folder; return the file or folder that is the source."""
    path = folder / file.name
    path.parent.mkdir(parents=True)
    if isinstance(file.content, bytes):
        path.write_bytes(file.content)
    else:
        file.content(path)
    return folder / Path(file.name).parts[0]


def declared(file: OddFile, source: Path) -> Data:
    """Return the data section for an odd file."""
    uri = f"sqlite:///{source}" if "query" in file.fields else str(source)
    return Data.model_validate({"uri": uri, "labels": ["ham", "spam"], **file.fields})


def check_told(file: OddFile, told: str, source: Path) -> None:
    """Check the line that a file is refused in."""
    assert file.told, told
    assert (file.place or source.name) in told
    assert not [fragment for fragment in file.told if fragment not in told], told
    assert told.isprintable()
    assert len(told) <= LONGEST_PROBLEM + len(str(source.parent)), told
    assert SECRET not in told


def check_read(file: OddFile, read: Callable[[Path], list[Pair]], folder: Path) -> None:
    """Read an odd file, which must end as the file states."""
    source = put(file, folder)
    try:
        rows = read(source)
    except EkibenError as error:
        (told,) = error.problems
        check_told(file, told, source)
    else:
        assert file.rows is not None, "it was read"
        assert rows == list(file.rows)


@pytest.mark.parametrize("file", DATA, ids=lambda file: file.id)
def test_odd_data_is_read_as_stated_or_refused_in_one_line(file: OddFile, homes: Path) -> None:
    def read(source: Path) -> list[Pair]:
        steps = homes / "ekiben_home" / "steps" / "ingest"
        try:
            manifest = read_dataset(declared(file, source))
        except EkibenError:
            assert [path for path in steps.glob("*") if path.suffix != ".lock"] == []
            raise
        table = pq.read_table(manifest.folder / "rows.parquet", columns=["text", "label"])
        return list(zip(*table.to_pydict().values(), strict=True))

    check_read(file, read, homes / "data")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.id)
def test_an_odd_config_is_loaded_as_stated_or_refused_in_one_line(
    file: OddFile, tmp_path: Path
) -> None:
    def read(source: Path) -> list[Pair]:
        config = load_config(source)
        return [(config.name, config.data.label_names[-1])]

    check_read(file, read, tmp_path / "configs")


@pytest.mark.parametrize("file", LARGE, ids=lambda file: file.id)
@pytest.mark.timeout(60)
def test_a_large_file_is_refused_before_it_fills_the_memory(file: OddFile, tmp_path: Path) -> None:
    source = put(file, tmp_path / "data")
    ended = subprocess.run(
        [sys.executable, "-c", READ_ALONE, declared(file, source).model_dump_json()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    problem, grown = json.loads(ended.stdout)
    check_told(file, problem, source)
    assert grown <= MOST_MEMORY


def test_there_are_hundreds_of_odd_files_and_no_two_are_the_same() -> None:
    files = [*DATA, *CONFIGS, *LARGE]
    assert len(files) >= FEWEST
    assert len({file.id for file in files}) == len(files)
    contents = [
        (file.name, file.content, repr(file.fields))
        for file in files
        if isinstance(file.content, bytes)
    ]
    assert len(set(contents)) == len(contents)
