"""Numbers of a plan as Kubernetes writes quantities."""

from __future__ import annotations

from selfhost.manifests.pod import Noted, Number
from selfhost.plan import Derived
from selfhost.units import GIB, MIB


def count_of(derived: Derived) -> Noted:
    """A whole number as text."""
    return Noted(value=str(derived.value), because=derived.because)


def number_of(derived: Derived) -> Number:
    """A whole number."""
    return Number(value=derived.value, because=derived.because)


def size_of(derived: Derived) -> Noted:
    """Bytes in the largest binary unit that keeps them whole."""
    return Noted(value=size_text(derived.value), because=derived.because)


def size_text(size: int) -> str:
    """Bytes in the largest binary unit that keeps them whole."""
    if size % GIB == 0:
        return f"{size // GIB}Gi"
    return f"{size // MIB}Mi" if size % MIB == 0 else str(size)


def literal(text: str) -> str:
    """Text that Kubernetes' own `$(NAME)` expansion of commands, arguments and variables gives back unchanged."""
    return text.replace("$", "$$")
