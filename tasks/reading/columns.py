"""Find the columns that are read among those of a source."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from configs.schema import Data
from tasks.reading.refusals import refuse, shown


def positions(path: Path | str, columns: list[str], data: Data, cure: str = "") -> list[int]:
    """Return where each of `data.read_columns` stands among the columns.

    Raises:
        DataError: if one of them is not there, or a name stands twice.
    """
    if len(set(columns)) != len(columns):
        doubled = sorted(name for name, count in Counter(columns).items() if count > 1)
        refuse(path, f"columns {shown(doubled)} appear twice; rename one of each")
    for name, key in data.read_columns.items():
        if name not in columns:
            refuse(
                path,
                f"no column {name!r} among {shown(columns)}; set data.{key} to one of them{cure}",
            )
    return [columns.index(name) for name in data.read_columns]


def require_declared(path: Path, found: str, columns: Sequence[str], data: Data) -> None:
    """Refuse columns that are not exactly `data.columns`, where that is set."""
    if data.columns is not None and tuple(columns) != data.columns:
        refuse(
            path,
            f"{found} {shown(columns)}, expected data.columns {shown(data.columns)}; correct one "
            "of them",
        )
