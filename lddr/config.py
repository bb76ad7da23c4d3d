"""Typed settings that answer a mistake with a sentence.

A notebook's parameters, a YAML file and the keywords of `fit` all end in one of these classes: unknown names are
rejected, types and ranges are checked, and the message says which name, what was found and what would be right.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lddr.errors import InputError


class Config(BaseModel):
    """Base of all settings: frozen, no unknown names, no silent conversions; chapter 06."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def check(cls, values: dict[str, Any]) -> Self:
        """Build the settings of names and values, for example read from YAML, or say in one sentence what is wrong.

        Raises:
            InputError: an unknown name, a wrong type or a value out of range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(" ".join(cls._sentence(e) for e in error.errors())) from None

    @classmethod
    def _sentence(cls, error: Mapping[str, Any]) -> str:
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            near = get_close_matches(name, cls.model_fields, n=1)
            known = ", ".join(sorted(cls.model_fields))
            hint = f"did you mean '{near[0]}'?" if near else f"the known ones are {known}."
            return f"There is no parameter '{name}': {hint}"
        text = error["msg"][0].lower() + error["msg"][1:]
        return f"Parameter '{name}' is {error['input']!r}: {text}."
