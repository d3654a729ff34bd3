"""advise(): answers -> the path, the reasons for it, the pitfalls on it, what contradicts, and what is asked back."""

from __future__ import annotations

from selfhost.advise.facts import ToCny, currency_said, derive
from selfhost.advise.match import Facts, applies
from selfhost.advise.tables import (
    Decision,
    Odds,
    Rule,
    decisions,
    odds,
    paths,
    pitfalls,
    question,
    rules,
    word,
)
from selfhost.advise.types import (
    Advice,
    Alternative,
    Answers,
    Asked,
    Change,
    Contradiction,
    Language,
    Reason,
    Warned,
)
from selfhost.advise.wishes import Wish, wish_of
from selfhost.errors import UsageError
from selfhost.licence.types import USES

# The question that settles a fact, in the order of the gates; asked back where the fact is unknown and an answer would
# change the path.
_SETTLES = {
    "privacy": "private", "control": "control", "mlops": "skills", "gpu_budget": "money", "stage": "stage",
    "frontier": "frontier", "need": "need", "load": "load", "mixed": "mixed", "routing": "routing",
}  # fmt: skip


def advise(answers: Answers, *, language: Language = "en", to_cny: ToCny | None = None) -> Advice:
    """Which way to go at all: open or closed, private or cloud, hybrid or hosted.

    Args:
        answers: what was said; nothing has to be.
        language: of all texts.
        to_cny: an amount and its currency in CNY; the thresholds of the rules are in CNY.

    Raises:
        UsageError: two answers cannot both be true.
    """
    facts = facts_of(answers, to_cny)
    for odd in odds():
        if odd.kind == "error" and applies(odd.when, None, facts):
            raise _error(odd, answers, language)
    row = _decide(facts)
    known = {**facts, "path": row.path}
    asked = _questions(answers, facts, row, language, to_cny)
    about = paths()[row.path]
    return Advice(
        path=row.path,
        title=about.text[language],
        plan=about.plan,
        decided_by=row.id,
        rules=row.rules,
        confidence="provisional" if any(_changes(one, row) for one in asked) else "firm",
        alternatives=tuple(
            Alternative(path=path, title=paths()[path].text[language], number=number)
            for path, number in row.alternatives
        ),
        reasons=_reasons(known, row, language),
        warnings=tuple(
            Warned(pitfall=one.id, number=one.number, because=_filled(one, answers, language))
            for one in pitfalls()
            if _speaks(one, known)
        ),
        questions=asked,
        contradictions=tuple(
            Contradiction(
                id=one.id, keys=one.keys, rules=one.rules, because=one.text[language], ways=one.ways[language]
            )
            for one in odds()
            if one.kind == "conflict" and applies(one.when, None, known)
        ),
    )


def wished(answers: Answers) -> Wish | None:
    """What is known of the model that the answers name; a size or a licence alone is a model without a name."""
    name, licence, size = (
        answers.choice("model"),
        answers.choice("model_licence"),
        answers.number("model_parameters_b"),
    )
    if name == "unknown" and licence == "unknown" and size is None:
        return None
    use = answers.choice("use")
    return wish_of(
        "" if name == "unknown" else name,
        licence=None if licence == "unknown" else licence,
        parameters_b=size,
        use=next((one for one in USES if one == use), "commercial"),
    )


def facts_of(answers: Answers, to_cny: ToCny | None) -> Facts:
    """The facts that the rules read."""
    return derive(answers, wish=wished(answers), to_cny=to_cny)


def _decide(facts: Facts) -> Decision:
    return next(row for row in decisions() if applies(row.when, row.unless, facts))


def _speaks(rule: Rule, facts: Facts) -> bool:
    return applies(rule.when, rule.unless, facts) and (not rule.paths or facts["path"] in rule.paths)


def _reasons(facts: Facts, row: Decision, language: Language) -> tuple[Reason, ...]:
    """The rules that speak, those that decided first."""
    found = [rule for rule in rules() if _speaks(rule, facts)]
    found.sort(key=lambda rule: rule.number not in row.rules)
    return tuple(Reason(rule=rule.id, number=rule.number, because=rule.text[language]) for rule in found)


def _filled(rule: Rule, answers: Answers, language: Language) -> str:
    """A pitfall's text with what is known of the model in it."""
    text = rule.text[language]
    if "{licence}" not in text:
        return text
    wish = wished(answers)
    assert wish is not None
    said = word(f"permission-{wish.permission}", language)
    return text.replace("{licence}", f"{wish.name or '–'}: {wish.licence or '–'}, {said}")


def _typed(value: object) -> str:
    """An answer as somebody would write it: 5, not 5.0."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _error(row: Odds, answers: Answers, language: Language) -> UsageError:
    names = ", ".join(f"{key}: {_typed(answers.values.get(key, 'unknown'))}" for key in row.keys)
    return UsageError(
        word("contradictory", language).format(because=row.text[language]),
        hint=word("correct-one-of", language).format(names=names),
    )


def _changes(asked: Asked, row: Decision) -> bool:
    return any(change.path != row.path for change in asked.changes)


def _questions(
    answers: Answers, facts: Facts, row: Decision, language: Language, to_cny: ToCny | None
) -> tuple[Asked, ...]:
    """What is asked back: what is ambiguous, what was answered with unknown, and what could change the path."""
    keys: list[str] = ["performance"] if facts["performance"] == "ambiguous" else []
    keys += [key for key, fact in _SETTLES.items() if facts.get(fact, "unknown") == "unknown"]
    keys += [key for key in sorted(answers.unknown) if key not in keys]
    wanted = set(answers.unknown) | ({"performance"} if facts["performance"] == "ambiguous" else set())
    found = []
    for key in keys:
        one = _asked(key, answers, language, to_cny)
        if key in wanted or _changes(one, row):
            found.append(one)
    had = {one.key for one in found}
    more = (key for key in _figures(answers, facts, row) if key not in had)
    return (*found, *(_asked(key, answers, language, to_cny) for key in more))


def deciding(answers: Answers) -> tuple[str, ...]:
    """Keys of the questions whose answer could still change the path, or say what is ambiguous."""
    facts = facts_of(answers, None)
    return tuple(one.key for one in _questions(answers, facts, _decide(facts), "en", None) if one.changes)


def _figures(answers: Answers, facts: Facts, row: Decision) -> list[str]:
    """Questions whose answer changes no path and is needed all the same."""
    keys = []
    if facts["performance"] == "latency" and answers.number("latency_ms") is None:
        keys.append("latency_ms")
    if facts["stage"] == "mature" and answers.number("requests_per_day") is None:
        keys.append("requests_per_day")
    amounts = (answers.number("upfront_budget"), answers.number("monthly_spend"))
    if any(amounts) and currency_said(answers) is None:
        keys.append("currency")
    if facts["private"] == "unknown" and facts["sector"] in ("finance", "medical", "government", "legal"):
        keys.append("privacy")
    return keys


def _asked(key: str, answers: Answers, language: Language, to_cny: ToCny | None) -> Asked:
    one = question(key)
    changes = []
    for choice in one.choices if one.kind == "choice" else ():
        if choice.value == "critical":  # it is what makes the question ambiguous
            continue
        facts = facts_of(answers.having(key, choice.value), to_cny)
        if any(each.kind == "error" and applies(each.when, None, facts) for each in odds()):
            continue
        changes.append(Change(answer=choice.value, label=choice.text[language], path=_decide(facts).path))
    same = len({change.path for change in changes}) < 2
    return Asked(
        key=key,
        ask=one.ask[language],
        why=one.why[language],
        changes=() if same and key != "performance" else tuple(changes),
    )
