"""How the test rows are divided into slices."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from configs.section import Section


class Slicing(Section):
    """One way to divide the test rows into slices, each of which is measured by itself."""

    by: Literal["length", "language", "column", "pattern"] = Field(
        description="What a row's slice is told by: the length of its text, the language, a column "
        "of the source, or whether a pattern is found in its text."
    )
    name: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Name that rules and reports call it by; the column's, or else `by`, if not set.",
    )
    edges: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(
        (50, 100, 200, 500),
        min_length=1,
        max_length=49,
        description="Lengths in characters, ascending, at which the next slice begins.",
    )
    column: str | None = Field(
        None, min_length=1, max_length=100, description="The column, one of data.slice_columns."
    )
    pattern: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Regular expression in RE2's syntax, which takes a time linear in the text's.",
    )
    min_rows: int = Field(
        1,
        ge=1,
        le=1_000_000,
        description="Languages, or values of the column, with fewer test rows are one slice, (other).",
    )

    @property
    def title(self) -> str:
        """Return the name that rules and reports call it by."""
        return self.name or self.column or self.by

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        uses = {"length": "edges", "column": "column", "pattern": "pattern"}
        for by, key in uses.items():
            default = type(self).model_fields[key].default
            if self.by != by and getattr(self, key) != default:
                raise ValueError(f"{key} is for by: {by}, and this is by: {self.by}; take it out")
        if self.by == "column" and self.column is None:
            raise ValueError("by: column needs column, one of data.slice_columns")
        if self.by == "pattern" and (self.pattern is None or self.name is None):
            raise ValueError("by: pattern needs pattern, and a name such as has_url")
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges do not ascend; sort them and list each once")
        return self

    @field_validator("pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            import pyarrow as pa  # late: few configs have a pattern
            import pyarrow.compute as pc

            try:
                pc.match_substring_regex(pa.array([""]), pattern)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{error}; write it as RE2 does") from None
        return pattern
