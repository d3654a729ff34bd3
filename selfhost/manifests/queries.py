"""PromQL about the pods of one plan: which series are theirs, and one number from all of them."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.engines import RenamesModels, get_engine
from selfhost.manifests.engine_metrics import LABELS, MODEL_LABEL
from selfhost.plan import Plan

# Labels by which ranks of one pod are told apart whose numbers add up: vLLM's and SGLang's data-parallel ranks.
RANK_LABELS = ("engine", "dp_rank")
_NAME_FLAGS = ("--served-model-name", "--alias", "--model-name")
# The suffixes that a ReplicaSet and its pods get (Kubernetes' rand.SafeEncodeString: no vowels, no 0, 1 and 3).
DEPLOYMENT_PODS = "-[a-z0-9]{1,10}-[a-z0-9]{5}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Series of one plan's pods.

    Args:
        namespace: of the pods.
        pods: regular expression of their names.
        model: value of the label with the model's name, None where the engine has no such label.
        ranks: labels that tell ranks of one pod apart.
    """

    namespace: str
    pods: str
    model: str | None
    ranks: tuple[str, ...]

    def matchers(self, *, engine: bool = True) -> str:
        """Label matchers, as they stand between braces.

        Args:
            engine: the metric is the engine's own, and has its labels.
        """
        found = f'namespace="{quoted(self.namespace)}", pod=~"{quoted(self.pods)}"'
        return found if self.model is None or not engine else f'{found}, {MODEL_LABEL}="{quoted(self.model)}"'

    def series(self, metric: str) -> str:
        """The metric of these pods."""
        return f"{metric}{{{self.matchers()}}}"

    def total(self, metric: str) -> str:
        """One number: ranks added up, and a pod that is scraped twice counted once."""
        return f"sum(max by ({', '.join(('pod', *self.ranks))}) ({self.series(metric)}))"


def scope_of(plan: Plan, namespace: str, *, pods: str = DEPLOYMENT_PODS) -> Scope:
    """Series of the pods of a plan.

    Args:
        plan: the decision.
        namespace: where it runs.
        pods: regular expression of what follows the plan's name in the names of pods.
    """
    labels = LABELS.get(plan.engine.name, ())
    return Scope(
        namespace=namespace,
        pods=f"{plan.name}{pods}",
        model=served_name(plan) if MODEL_LABEL in labels else None,
        ranks=tuple(label for label in RANK_LABELS if label in labels),
    )


def served_name(plan: Plan) -> str:
    """The name that clients send as `model`, and that engines put on their metrics."""
    words = plan.engine.args
    for number, word in enumerate(words):
        if word.flag in _NAME_FLAGS:  # the value in the same word, or in the next where the parser wants two
            following = words[number + 1].value if number + 1 < len(words) else None
            return word.value or following or plan.model.id
    driver = get_engine(plan.engine.name)
    return driver.client_name(plan.model.id) if isinstance(driver, RenamesModels) else plan.model.id


def quoted(text: str) -> str:
    """Text between the quotes of a PromQL string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
