"""What an API server says when it refuses an object, sorted: quota, limits, Pod Security, policies, missing objects.

Wording of kube-apiserver 1.36 (plugin/pkg/admission and apiserver/pkg/admission), read from the released binary
2026-11-26; OpenShift's of its SecurityContextConstraints, Kyverno's and Gatekeeper's come inside a webhook's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from selfhost.deploy.types import Cause


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A form of refusal. `{0}`…: the pattern's groups in the sentence and the hint, `{what}` whose object it is."""

    code: str
    pattern: re.Pattern[str]
    sentence: str
    hint: str
    final: bool = True
    patience: float = 0.0


def _form(code: str, pattern: str, sentence: str, hint: str, *, patience: float | None = None) -> _Refusal:
    return _Refusal(code, re.compile(pattern, re.DOTALL), sentence, hint, patience is None, patience or 0.0)


_FREE = 60.0  # Ours: what somebody else just deleted is given back to a quota within seconds
_SOON = 30.0  # Ours: an object of the same deployment is there within seconds
_NAME = r"\"?([\w.:/-]+)\"?"
_FORMS = (
    _form(
        "quota",
        r"exceeded quota: ([\w.-]+), requested: (\S+), used: (\S+), limited: (\S+)",
        "The quota {0} of the namespace leaves no room for {what}: {1} is asked, {2} of {3} is used.",
        "Raise the quota, or scale something else down: kubectl describe quota {0}",
        patience=_FREE,
    ),
    _form(
        "quota",
        r"failed quota: ([\w.-]+): (must specify [^;\n]+)",
        "The quota {0} of the namespace refuses {what}: every container {1}.",
        "Give the containers what it asks for, or change the quota: kubectl describe quota {0}",
    ),
    _form(
        "quota",
        r"status unknown for (?:quota|resource quota): ([\w.,() -]+)",
        "The quota {0} of the namespace is not counted yet, and refuses {what} until then.",
        "Wait; kubectl describe quota {0}",
        patience=_FREE,
    ),
    _form(
        "limit-range",
        (
            r"(maximum|minimum) ([\w./-]+) usage per (\w+) is ([\w.]+)(?:, but (?:limit|request) "
            r"is ([\w.]+)|\.\s+No \w+ is specified)"
        ),
        "A LimitRange of the namespace refuses {what}: the {0} of {1} per {2} is {3}, and {4} is asked.",
        "Have the LimitRange changed (kubectl get limitrange -o yaml), or deploy into another namespace.",
    ),
    _form(
        "limit-range",
        r"([\w./-]+) max limit to request ratio per (\w+) is ([\w.]+), but provided ratio is ([\w.]+)",
        "A LimitRange of the namespace refuses {what}: limits of {0} per {1} may be {2} times the request, not {3}.",
        "Have the LimitRange changed (kubectl get limitrange -o yaml), or deploy into another namespace.",
    ),
    _form(
        "pod-security",
        rf"violates PodSecurity {_NAME}: (.+)",
        "Pod Security {0} of the namespace refuses {what}: {1}.",
        (
            "Deploy into a namespace whose level allows it (label "
            "pod-security.kubernetes.io/enforce), or take the option out that needs it."
        ),
    ),
    _form(
        "pod-security",
        r"unable to validate against any security context constraint: (.+)",
        "No SecurityContextConstraints of OpenShift allow {what}: {0}.",
        "Let the service account use a constraint that allows it: oc adm policy add-scc-to-user SCC -z SERVICEACCOUNT",
    ),
    _form(
        "webhook-unreachable",
        rf"failed calling webhook {_NAME}(?:: (.+)|;)",
        "The admission webhook {0} does not answer, and nothing is accepted without it: {1}.",
        (
            "Have its pods looked at (kubectl get "
            "validatingwebhookconfigurations,mutatingwebhookconfigurations names its service)."
        ),
        patience=120.0,
    ),
    _form(
        "policy-refused",
        rf"admission webhook {_NAME} denied the request(?: without explanation|: (.+))",
        "The policy of the admission webhook {0} refuses {what}: {1}.",
        "Change what it objects to, or have its owner make an exception for this namespace.",
    ),
    _form(
        "policy-refused",
        r"ValidatingAdmissionPolicy '([^']+)'(?: with binding '[^']+')? denied request: (.+)",
        "The cluster's policy {0} refuses {what}: {1}.",
        "Change what it objects to, or have its owner make an exception for this namespace.",
    ),
    _form(
        "service-account-missing",
        r"error looking up service account [\w.-]+/([\w.-]+): serviceaccounts? \"[^\"]+\" not found",
        "The service account {0} that {what} is to run as does not exist.",
        "Deploy again, which makes it, or make it: kubectl create serviceaccount {0}",
        patience=_SOON,
    ),
    _form(
        "priority-class-missing",
        r"no PriorityClass with name ([\w.-]+) was found",
        "The cluster has no PriorityClass {0}, which {what} asks for.",
        "Name one that exists (kubectl get priorityclasses), or have it made.",
    ),
    _form(
        "runtime-class-missing",
        r"RuntimeClass \"([^\"]+)\" not found",
        "The cluster has no RuntimeClass {0}, which {what} asks for.",
        (
            "Name one that exists (kubectl get runtimeclasses), or install what brings it "
            "(NVIDIA's GPU operator brings nvidia)."
        ),
    ),
)
_WIDTH = 220


def refusal(said: str, *, what: str = "the pod") -> Cause | None:
    """The cause in an API server's words of refusal; None where it is none of those that are known.

    Args:
        said: the server's words, of an answer, a condition or an event.
        what: what is refused, for people: `pods of qwen3-32b`, `Deployment qwen3-32b`.
    """
    from selfhost.deploy.engine_log import shortened

    for form in _FORMS:
        found = form.pattern.search(said)
        if found is None:
            continue
        groups = [_cut(group or "nothing") for group in found.groups()]
        return Cause(
            code=form.code,
            sentence=form.sentence.format(*groups, what=what),
            evidence=(shortened(said.replace("\n", " ")),),
            hint=form.hint.format(*groups, what=what),
            final=form.final,
            patience_seconds=form.patience,
        )
    return None


def _cut(words: str) -> str:
    words = " ".join(words.split()).rstrip(". ")
    return words if len(words) <= _WIDTH else f"{words[: _WIDTH - 1]}…"
