"""A verdict in words: one line for people, a few words for tables, and the refusal of what it does not permit."""

from __future__ import annotations

import re

from selfhost.errors import LicenceError
from selfhost.licence.types import Openness, Use, Verdict

# What each openness means where nothing more is known of the model.
OPENNESS: dict[Openness, str] = {
    "open-source": "Open source: the weights, the training code and the training data are published under open terms.",
    "open-weight": "Open weight: the weights can be had and run; the training data and code are not known to be "
    "published.",
    "closed": "Closed: nobody gets the weights without a contract with their owner.",
    "unknown": "Openness unknown: the files can be read, what may be done with them is not known.",
}
_UNREAD = ("secondary", "knowledge", "name")  # rows whose text nobody read for the catalogue
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


def require(verdict: Verdict) -> None:
    """Refuse a use that the licence does not permit, or whose terms nobody has accepted.

    Nothing is refused where no use was named. Accepting lifts `conditional` and `unknown`; what a licence forbids stays
    forbidden, as only its owner can permit it.

    Raises:
        LicenceError: says what stands against it and what lifts that.
    """
    if verdict.use is None or verdict.permission == "yes":
        return
    who = _called(verdict)
    if verdict.permission == "no":
        raise LicenceError(
            f"{who} does not permit {_use(verdict.use)}: {_joined(verdict.obligations)}.",
            hint=f"choose another model, or get a licence from its owner ({verdict.source}).",
        )
    if verdict.accepted:
        return
    way = f"read {verdict.source}; if it permits your use, add --accept-licence {accept_id(verdict)}"
    if verdict.permission == "unknown":
        what = "The model's licence" if verdict.licence is None else f"The licence {verdict.licence}"
        seen = "".join(f"; {_lower(one.rstrip('.'))}" for one in verdict.obligations[1:])
        raise LicenceError(f"{what} is unknown: read it before {_use(verdict.use)}{seen}.", hint=way)
    raise LicenceError(
        f"{who} permits {_use(verdict.use)} under conditions: {_joined(verdict.obligations)}.",
        hint=way.replace("if it permits your use,", "if you meet them all,"),
    )


def accept_id(verdict: Verdict) -> str:
    """What `--accept-licence` takes for this verdict: the licence's id, or `unknown` where it is no plain word."""
    named = verdict.licence or ""
    return named if _WORD.fullmatch(named) else "unknown"


def sentence(verdict: Verdict, *, most: int = 2) -> str:
    """The verdict in one line without its full stop: `llama3.3, conditional: more than 700 million ...`.

    Args:
        verdict: what was judged.
        most: obligations that are spelt out; how many more there are is said.
    """
    if verdict.permission == "unknown":
        return _unknown(verdict)
    told = [_lower(one.rstrip(".")) for one in verdict.obligations[:most]]
    left = len(verdict.obligations) - len(told)
    more = [f"and {left} more"] if left > 0 else []
    return _head(verdict) + (": " + "; ".join(told + more) if told else "") + _doubt(verdict)


def brief(verdict: Verdict) -> str:
    """The verdict in a few words without a full stop: `llama3.3, conditional: attribution, 700 M users`."""
    if verdict.permission == "unknown":
        return _unknown(verdict)
    terms = [one for one in verdict.terms if verdict.permission != "no" or one != "non-commercial"]
    return _head(verdict) + (": " + ", ".join(terms) if terms else "") + _doubt(verdict)


def openness_sentence(verdict: Verdict) -> str:
    """How open the model is and what that means, in one sentence."""
    return verdict.openness_because or OPENNESS[verdict.openness]


def _called(verdict: Verdict) -> str:
    return verdict.name if verdict.licence in (None, verdict.name) else f"{verdict.name} ({verdict.licence})"


def _use(use: Use) -> str:
    return "research" if use == "research" else f"{use} use"


def _joined(obligations: tuple[str, ...]) -> str:
    return "; ".join(_lower(one.rstrip(".")) for one in obligations) or "read it"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _head(verdict: Verdict) -> str:
    words = {
        "yes": f"permits {_use(verdict.use or 'commercial')}",
        "conditional": "conditional, accepted" if verdict.accepted else "conditional",
        "no": "non-commercial" if verdict.use is None else f"does not permit {_use(verdict.use)}",
    }
    return f"{verdict.licence}, {words[verdict.permission]}"


def _unknown(verdict: Verdict) -> str:
    text = "unknown: read it" if verdict.licence is None else f"{verdict.licence}, unknown: read it"
    return text + (", accepted" if verdict.accepted else "")


def _doubt(verdict: Verdict) -> str:
    return " (its text was not checked: read it)" if verdict.verification in _UNREAD else ""
