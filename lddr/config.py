"""Typed settings that answer a mistake with a sentence.

A notebook's parameters, a YAML file and the keywords of `fit` all end in one of these classes: unknown names are
rejected, types and ranges are checked, and the message says which name, what was found and what would be right.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lddr.errors import InputError


class Config(BaseModel):
    """Base of all settings: frozen, no unknown names, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings of names and values, for example read from YAML, or say in one sentence what is wrong.

        Raises:
            InputError: an unknown name, a wrong type or a value out of range.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InputError(" ".join(cls._sentence(e) for e in error.errors())) from None

    @classmethod
    def _sentence(cls, error: Mapping[str, Any]) -> str:
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            return unknown_name(name, cls.model_fields)
        text = error["msg"].removeprefix("Value error, ")
        return f"Parameter '{name}' is {error['input']!r}: {text[0].lower()}{text[1:]}."


def unknown_name(name: str, known: Iterable[str], begin: str = "There is no parameter") -> str:
    """Say that there is no such parameter, and which one was probably meant."""
    near = get_close_matches(name, list(known), n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"the known ones are {', '.join(sorted(known))}."
    return f"{begin} '{name}': {hint}"


def _value(text: str) -> Any:
    """A number, list, true, false or null as JSON has it (YAML takes 1e-4 for a word), else what YAML makes of it."""
    import yaml

    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return yaml.safe_load(text)


def _misspelt(name: str, known: Collection[str]) -> bool:
    """Say whether a name differs from one of the known ones by a slip: one letter of four, two of eight."""
    return bool(get_close_matches(name, list(known), n=1, cutoff=0.75))  # 'scans' is no slip for 'cascades'


def read_parameters(words: Sequence[str], known: Collection[str] = ()) -> dict[str, Any]:
    """Read YAML files and words of the form name=value; later words win.

    Args:
        words: file names, and name=value.
        known: the names that are used here. A file whose last line is `shared: true` serves other uses as well: what is
            not among these names is passed over, unless it looks like one of them misspelt.

    Raises:
        InputError: a file that cannot be read, or is not YAML, or does not hold lines of the form `name: value`.
    """
    import yaml

    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            found = {name: _value(value)} if equals else yaml.safe_load(Path(word).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{word}: cannot be read ({error.strerror}).") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            raise InputError(f"{word}: this is not YAML.") from None
        if not isinstance(found, dict):
            raise InputError(f"{word}: expected lines of the form 'name: value'.")
        if not equals and found.pop("shared", False):
            others = [name for name in found if name not in known and not _misspelt(str(name), known)]
            found = {name: value for name, value in found.items() if name not in others}
            if others:
                print(f"{word}: not used here: {', '.join(others)}.")
        values |= found
    return values
