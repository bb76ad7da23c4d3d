"""Typed settings that answer a mistake with a sentence.

A notebook's parameters, a YAML file and the keywords of `fit` all end in one of these classes: unknown names are
rejected, types and ranges are checked, and the message says which name, what was found and what would be right.
"""

import json
import os
import reprlib
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator

from lddr.errors import InputError, unreadable

UserPath = Annotated[str, AfterValidator(os.path.expanduser)]  # of a setting that names a file: ~ is the home folder
LARGEST, DEEPEST = 100_000, 20  # characters of a file of settings, and lists within lists
_brief = reprlib.Repr()  # what was found, but not pages of it
_brief.maxlevel, _brief.maxlist, _brief.maxdict = 3, 8, 8
_brief.maxstring = _brief.maxlong = _brief.maxother = 80


class Config(BaseModel):
    """Base of all settings: frozen, no unknown names, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _limit(cls, value: Any) -> Any:
        """Refuse whole numbers that no library behind us can hold."""
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("input should have fewer digits")
        return value

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings of names and values, for example read from YAML, or say in one sentence what is wrong.

        Raises:
            InputError: an unknown name, a wrong type or a value out of range.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"Expected names and values, found {_brief.repr(values)}.")
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
        return f"Parameter '{name}' is {_brief.repr(error['input'])}: {text[0].lower()}{text[1:]}."


def unknown_name(name: str, known: Iterable[str], begin: str = "There is no parameter") -> str:
    """Say that there is no such parameter, and which one was probably meant."""
    near = get_close_matches(name, list(known), n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"the known ones are {', '.join(sorted(known))}."
    return f"{begin} '{name}': {hint}"


def _value(text: str) -> Any:
    """A number, list, true, false or null as JSON has it (YAML takes 1e-4 for a word), else what YAML makes of it."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return _yaml(text)


def _yaml(text: str) -> Any:
    """Read YAML that is what settings are: flat, or nearly so, and spelt out. `ValueError` says what it is instead."""
    import yaml

    depth = 0
    try:
        for token in yaml.scan(text):
            if isinstance(token, yaml.AliasToken):  # a few lines of these can stand for billions of values
                raise ValueError("references (*name) are not taken here; write the values out")
            depth += token.id in ("[", "{", "<block sequence start>", "<block mapping start>")
            depth -= token.id in ("]", "}", "<block end>")
            if depth > DEEPEST:
                raise ValueError("it is nested too deeply for settings")
    except yaml.YAMLError:
        raise ValueError("this is not YAML") from None
    try:
        return yaml.safe_load(text)
    except Exception:  # also of values that their mark does not fit, as in !!bool 7, or that are no date, or too long
        raise ValueError("this is not YAML") from None


def _text(path: Path) -> str:
    """Read a file of settings, UTF-8 whatever the locale says."""
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a device may never end
        raise ValueError("this is a device or a pipe; expected a file")
    with path.open(encoding="utf-8-sig") as file:  # Windows editors put a mark first
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError("the file is too large for settings")
    return text


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
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            found = {name: _value(value)} if equals else _yaml(_text(Path(os.path.expanduser(word))))
        except OSError as error:
            raise unreadable(word, error) from None
        except UnicodeDecodeError:
            raise InputError(f"{word}: this is not YAML.") from None
        except ValueError as error:
            raise InputError(f"{word[:80]}: {error}.") from None
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise InputError(f"{word}: expected lines of the form 'name: value'.")
        if not equals and found.pop("shared", False):
            others = [name for name in found if name not in known and not _misspelt(str(name), known)]
            found = {name: value for name, value in found.items() if name not in others}
            if others:
                print(f"{word}: not used here: {', '.join(others)}.")
        values |= found
    return values
