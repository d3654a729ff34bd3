"""The models that a model was made from, as far as their licences bind it too."""

from __future__ import annotations

from collections.abc import Callable

from selfhost.licence import Declared, Use, strictness

DEPTH = 5  # a model made from a model made from …
MOST = 12  # merges name many

Ask = Callable[[str], Declared | None]


def binding_base(declared: Declared, *, ask: Ask, use: Use | None = None) -> tuple[str, Declared] | None:
    """The base model whose licence binds most, and its repository; None where none declares anything.

    The whole chain is asked, because one link that declares a freer licence than its own base frees nobody.

    Args:
        declared: what the model says.
        ask: what a repository declares, None where that cannot be found out.
        use: what the model is meant for.
    """
    found: list[tuple[str, Declared]] = []
    seen: set[str] = set()
    level = declared.base_models
    for _ in range(DEPTH):
        names = [name for name in dict.fromkeys(level) if name not in seen][: MOST - len(seen)]
        seen.update(names)
        answers = [(name, answer) for name in names if (answer := ask(name)) is not None]
        found += [(name, answer) for name, answer in answers if answer.licence or answer.name or answer.link]
        level = tuple(base for _, answer in answers for base in answer.base_models)
        if not level:
            break
    if not found:
        return None

    def bound(one: tuple[str, Declared]) -> int:
        return (1, 2, 0, 3)[strictness(one[1], use=use, repo=one[0])]  # what is unknown binds least

    return max(found, key=bound)
