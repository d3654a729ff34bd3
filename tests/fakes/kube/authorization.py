"""Who may do what: roles and their bindings as they are stored, and what a test denies on top."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.store import Store
from tests.fakes.kube.wire import Object, RefusalError, at, name_of, namespace_of

MASTERS = "system:masters"
_RBAC = "rbac.authorization.k8s.io/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who asks. Of the group system:masters: may do everything."""

    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for. `namespace` is empty for what is in none, or in all."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def full(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """What a user may not do, whatever roles say; `*` and an empty namespace mean any."""

    user: str
    verbs: tuple[str, ...] = ("*",)
    resources: tuple[str, ...] = ("*",)
    namespace: str = ""

    def holds(self, user: User, asked: Asked) -> bool:
        return (
            self.user in ("*", user.name)
            and ("*" in self.verbs or asked.verb in self.verbs)
            and ("*" in self.resources or asked.full in self.resources)
            and self.namespace in ("", asked.namespace)
        )


@dataclass(slots=True)
class Authorizer:
    """RBAC."""

    store: Store
    denials: list[Denial] = field(default_factory=list)

    def allowed(self, user: User, asked: Asked) -> bool:
        """Whether a user may."""
        if any(one.holds(user, asked) for one in self.denials):
            return False
        if MASTERS in user.groups:
            return True
        if asked.verb == "create" and asked.resource.startswith("selfsubject"):
            return True
        return bool(self.reason(user, asked))

    def reason(self, user: User, asked: Asked) -> str:
        """Which binding lets a user do it, in RBAC's words; empty where none does."""
        for binding in [*self._all("ClusterRoleBinding"), *self._all("RoleBinding")]:
            place = namespace_of(binding)
            if place and place != asked.namespace:
                continue
            if any(_permits(rule, asked) for rule in self._rules_of(user, binding, place)):
                role = binding["roleRef"]
                called = f"{name_of(binding)}/{place}" if place else name_of(binding)
                what = f'{binding["kind"]} "{called}" of {role["kind"]} "{role["name"]}"'
                return f'RBAC: allowed by {what} to User "{user.name}"'
        return ""

    def require(self, user: User, asked: Asked) -> None:
        """Nothing, where a user may.

        Raises:
            RefusalError: 403 in the authorizer's words.
        """
        if self.allowed(user, asked):
            return
        place = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
        called = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
        named = f'{called} "{asked.name}"' if asked.name else called
        details: Object = {"name": asked.name} if asked.name else {}
        details |= {"group": asked.group} if asked.group else {}
        raise RefusalError(
            403, "Forbidden",
            f'{named} is forbidden: User "{user.name}" cannot {asked.verb} resource "{asked.full}" in API group '
            f'"{asked.group}" {place}', details=details | {"kind": asked.resource},
        )  # fmt: skip

    def rules(self, user: User, namespace: str) -> list[Object]:
        """What roles let a user do in a namespace."""
        if MASTERS in user.groups:
            return [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        found: list[Object] = []
        for binding in self._all("ClusterRoleBinding"):
            found += self._rules_of(user, binding, "")
        for binding in self._all("RoleBinding"):
            if namespace and namespace_of(binding) == namespace:
                found += self._rules_of(user, binding, namespace)
        return found

    def _kind(self, name: str) -> Kind:
        found = self.store.named(_RBAC, name)
        assert found is not None
        return found

    def _all(self, name: str) -> list[Object]:
        return self.store.all(self._kind(name))

    def _rules_of(self, user: User, binding: Object, namespace: str) -> list[Object]:
        meant = any(
            (one.get("kind") == "User" and one.get("name") == user.name)
            or (one.get("kind") == "Group" and one.get("name") in (*user.groups, "system:authenticated"))
            or (
                one.get("kind") == "ServiceAccount"
                and user.name
                == f"system:serviceaccount:{one.get('namespace') or namespace}:{one.get('name')}"
            )
            for one in binding.get("subjects") or ()
        )
        reference = binding.get("roleRef") or {}
        if not meant:
            return []
        role = self.store.find(
            self._kind(reference.get("kind", "Role")), namespace, reference.get("name", "")
        )
        return (role or {}).get("rules") or []

    # -- reviews ----------------------------------------------------------------------------------------------------

    def access_review(self, user: User, item: Object) -> Object:
        """Answer to a SelfSubjectAccessReview."""
        wanted = at(item, "spec", "resourceAttributes")
        why = ""
        if wanted is None:
            may = MASTERS in user.groups or at(item, "spec", "nonResourceAttributes", "verb") == "get"
        else:
            wanted = {key: value for key, value in wanted.items() if value}
            item = item | {"spec": item["spec"] | {"resourceAttributes": wanted}}
            asked = Asked(
                verb=wanted.get("verb", ""), group=wanted.get("group", ""), resource=wanted.get("resource", ""),
                namespace=wanted.get("namespace", ""), name=wanted.get("name", ""),
                subresource=wanted.get("subresource", ""),
            )  # fmt: skip
            may = self.allowed(user, asked)
            why = self.reason(user, asked) if may else ""
        return item | {"metadata": {}, "status": {"allowed": may} | ({"reason": why} if why else {})}

    def review(self, user: User, item: Object) -> Object:
        """Answer to a SelfSubjectReview."""
        groups = [*user.groups, *({"system:authenticated"} - set(user.groups))]
        return item | {"metadata": {}, "status": {"userInfo": {"username": user.name, "groups": groups}}}

    def rules_review(self, user: User, item: Object) -> Object:
        """Answer to a SelfSubjectRulesReview."""
        namespace = at(item, "spec", "namespace") or ""
        if not namespace:
            raise RefusalError(400, "BadRequest", "no namespace on request")
        own = [
            {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
             "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
            {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
        ]  # fmt: skip
        plain = [
            {
                "verbs": ["get"],
                "nonResourceURLs": ["/api", "/apis", "/healthz", "/livez", "/readyz", "/version"],
            }
        ]
        status = {
            "resourceRules": [*self.rules(user, namespace), *own],
            "nonResourceRules": plain,
            "incomplete": False,
        }
        return item | {"metadata": {}, "spec": {}, "status": status}


def _permits(rule: Object, asked: Asked) -> bool:
    def meets(name: str, *wanted: str) -> bool:
        found = rule.get(name) or ()
        return "*" in found or any(one in found for one in wanted)

    names = rule.get("resourceNames") or ()
    return (
        meets("verbs", asked.verb)
        and meets("apiGroups", asked.group)
        and meets("resources", asked.full, *([f"*/{asked.subresource}"] if asked.subresource else ()))
        and (not names or asked.name in names)
    )
