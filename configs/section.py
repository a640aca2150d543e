"""What every section of the config is made of."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Limit = Annotated[float, Field(gt=0.0, le=1.0)]
LabelName = Annotated[str, Field(min_length=1, max_length=100)]
MetricName = Annotated[str, Field(min_length=1, max_length=120)]
GainLimit = Annotated[float, Field(gt=-1.0, lt=1.0)]
Perturbation = Literal["typos", "case", "white_space", "full_width", "entities"]


class Section(BaseModel):
    """A frozen part of the config that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _flag_only_for_flags(cls, value: Any, field: ValidationInfo) -> Any:
        """Refuse YAML's true, yes and on where a number or text belongs; they would count as 1."""
        wants_flag = cls.model_fields[str(field.field_name)].annotation is bool
        if isinstance(value, bool) and not wants_flag:
            raise ValueError("true and false (also yes, no, on, off) are no value for this key")
        return value
