"""A typed, suspicious reader of config.json: every value is checked where it is read, every refusal names its field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias, overload

from selfhost.errors import ConfigError

# No model comes near these; larger values are mistakes or hostile and would only make the arithmetic meaningless.
MAX_SIZE = 1 << 32
MAX_LAYERS = 4096
_MISSING = object()
# The readers are named for what they return, which hides the builtins inside the class.
_int: TypeAlias = int
_str: TypeAlias = str
_float: TypeAlias = float
_bool: TypeAlias = bool


class Config:
    """One section of a configuration.

    Args:
        data: the section as parsed from JSON.
        path: dotted path of the section, for messages.
    """

    __slots__ = ("data", "path")

    def __init__(self, data: Mapping[str, object], path: _str = "") -> None:
        self.data = data
        self.path = path

    def name(self, field: _str) -> _str:
        """Dotted name of a field of this section."""
        return f"{self.path}.{field}" if self.path else field

    def error(self, field: _str, problem: _str, *, hint: _str | None = None) -> ConfigError:
        """The refusal for one field, to raise."""
        name = self.name(field)
        return ConfigError(f"The configuration's `{name}` {problem}.", field=name, hint=hint)

    def has(self, field: _str) -> _bool:
        """Whether the field is there and not null."""
        return self.data.get(field) is not None

    def replaced(self, **fields: object) -> Config:
        """The section with other values in some fields."""
        return Config({**self.data, **fields}, self.path)

    def filled(self, defaults: Mapping[_str, object]) -> Config:
        """The section with defaults where a field is absent; null counts as given."""
        return Config({**defaults, **self.data}, self.path)

    def _get(self, fields: tuple[_str, ...], default: object) -> tuple[_str, object]:
        for field in fields:
            value = self.data.get(field)
            if value is not None:
                return field, value
        if default is _MISSING:
            raise self.error(fields[0], "is missing")
        return fields[0], default

    @overload
    def int(self, *fields: _str, minimum: _int = ..., maximum: _int = ...) -> _int: ...
    @overload
    def int(self, *fields: _str, default: _int, minimum: _int = ..., maximum: _int = ...) -> _int: ...
    @overload
    def int(self, *fields: _str, default: None, minimum: _int = ..., maximum: _int = ...) -> _int | None: ...
    def int(
        self, *fields: _str, default: object = _MISSING, minimum: _int = 1, maximum: _int = MAX_SIZE
    ) -> _int | None:
        """A whole number in [minimum, maximum]; the first of `fields` that is set counts.

        Raises:
            ConfigError: missing without a default, not a whole number, or out of range.
        """
        field, value = self._get(fields, default)
        if value is default and value is not _MISSING:
            return value  # type: ignore[return-value]
        if isinstance(value, float) and value.is_integer() and abs(value) < MAX_SIZE:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(field, f"should be a whole number, not {_show(value)}")
        if not minimum <= value <= maximum:
            raise self.error(field, f"is {_show(value)}, outside {minimum} to {maximum}")
        return value

    def float(self, field: _str, *, default: _float) -> _float:
        """A finite number."""
        _, value = self._get((field,), default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e12 < value < 1e12:
            raise self.error(field, f"should be a number, not {_show(value)}")
        return float(value)

    def bool(self, *fields: _str, default: _bool = False) -> _bool:
        """True or false; null counts as the default."""
        field, value = self._get(fields, default)
        if not isinstance(value, bool):
            raise self.error(field, f"should be true or false, not {_show(value)}")
        return value

    def str(self, *fields: _str, default: _str = "") -> _str:
        """A string."""
        field, value = self._get(fields, default)
        if not isinstance(value, str):
            raise self.error(field, f"should be a string, not {_show(value)}")
        return value

    def section(self, *fields: _str) -> Config:
        """A nested object.

        Raises:
            ConfigError: missing or not an object.
        """
        field, value = self._get(fields, _MISSING)
        if not isinstance(value, Mapping):
            raise self.error(field, f"should be an object, not {_show(value)}")
        return Config(value, self.name(field))

    def optional_section(self, *fields: _str) -> Config | None:
        """A nested object, None where it is absent."""
        return self.section(*fields) if any(self.has(field) for field in fields) else None

    def list(self, field: _str, *, default: tuple[object, ...] | None = None) -> tuple[object, ...]:
        """A list of anything."""
        _, value = self._get((field,), _MISSING if default is None else default)
        if not isinstance(value, (list, tuple)):
            raise self.error(field, f"should be a list, not {_show(value)}")
        if len(value) > 1_000_000:
            raise self.error(field, "has more than a million entries")
        return tuple(value)

    def ints(
        self, field: _str, *, minimum: _int = 0, default: tuple[_int, ...] | None = None
    ) -> tuple[_int, ...]:
        """A list of whole numbers."""
        values = self.list(field, default=default)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= MAX_SIZE:
                raise self.error(
                    field, f"should hold whole numbers of at least {minimum}, not {_show(value)}"
                )
        return tuple(v for v in values if isinstance(v, int))

    def strings(self, field: _str, *, default: tuple[_str, ...] | None = None) -> tuple[_str, ...]:
        """A list of strings."""
        values = self.list(field, default=default)
        for value in values:
            if not isinstance(value, str):
                raise self.error(field, f"should hold strings, not {_show(value)}")
        return tuple(v for v in values if isinstance(v, str))

    def sections(self, field: _str) -> Iterator[Config]:
        """A list of objects."""
        for index, value in enumerate(self.list(field)):
            if not isinstance(value, Mapping):
                raise self.error(f"{field}[{index}]", f"should be an object, not {_show(value)}")
            yield Config(value, self.name(f"{field}[{index}]"))

    # ---- fields that nearly every family has
    def layers(self, *fields: _str) -> _int:
        """Number of decoder layers."""
        return self.int(
            *(fields or ("num_hidden_layers", "n_layer", "num_layers", "n_layers")), maximum=MAX_LAYERS
        )


def _show(value: object) -> str:
    """A value as a message can carry it: short, one line, no control characters."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**20:
        return f"a number of {len(hex(value)) * 3 // 10 * 4} digits or so"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
