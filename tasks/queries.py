"""Read labelled rows with a SQL query, as strictly as a file."""

from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path

from configs.schema import Data, redact
from tasks.reading import (
    Row,
    as_text,
    check_characters,
    positions,
    refuse,
    refuse_more,
    row_maker,
)
from tasks.sources import conceal, split_pin


def read_query(data: Data) -> Iterator[Row]:
    """Yield the rows of `data.query` run on the database at `data.uri`, through SQLAlchemy.

    Raises:
        DataError: if the database or query fails, or its columns are not as declared.
    """
    import sqlalchemy

    source, make = redact(data.uri), row_maker(data)
    if data.query is None:
        refuse(source, "a SQL source needs data.query, such as SELECT text, label FROM table")
    try:
        url = sqlalchemy.make_url(split_pin(data.uri)[0])
        _require_database_file(source, url.get_backend_name(), url.database)
        engine = sqlalchemy.create_engine(url)
        with engine.connect().execution_options(stream_results=True) as connection:
            result = connection.execute(sqlalchemy.text(data.query))
            values = itemgetter(*positions(source, list(result.keys()), data))
            for number, record in enumerate(result, start=1):
                if number > data.max_rows:
                    refuse_more(source, data)
                where = f"{source}: row {number}"
                texts = map(partial(as_text, where), data.read_columns, values(record))
                row = make(number, tuple(texts))
                check_characters(source, row)
                yield row
    except ImportError as error:
        refuse(source, f"its driver is not installed ({error}); add it with pip install")
    except (sqlalchemy.exc.SQLAlchemyError, OSError, ValueError, TypeError) as error:
        # Only the first line, and no value: what follows may quote a row.
        said = str(error).partition("\n")[0].partition(" with text ")[0]
        reason = redact(conceal(said, data.uri))
        refuse(source, f"query failed ({reason}); check data.uri and data.query")


def _require_database_file(source: str, backend: str, database: str | None) -> None:
    """Refuse a database file that is not there; these two would make an empty one."""
    named = database not in (None, "", ":memory:") and not str(database).startswith("file:")
    if backend in ("sqlite", "duckdb") and named and not Path(str(database)).is_file():
        refuse(source, f"no such database file, seen from {Path.cwd()}; correct data.uri")
