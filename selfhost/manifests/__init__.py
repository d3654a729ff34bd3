"""Plan + target -> Manifests: documents in apply order.

A target is a folder of templates/ and a module here of the same name, whose `view` makes what the templates see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, cast

from selfhost.assets import asset_dir, targets
from selfhost.engines import parse_image
from selfhost.errors import UsageError
from selfhost.manifests.document import Document
from selfhost.manifests.environment import environment
from selfhost.manifests.options import AccessMode, RenderOptions
from selfhost.manifests.options.given import refuse_elsewhere
from selfhost.manifests.output import write_manifests
from selfhost.plan import Plan, to_json

PLAN_FILE = "plan.json"
_SUFFIX = ".j2"
_NAME = "NAME"  # in a template's file name: the plan's, where a reader looks for the file by it


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """What a target is given, objects first and in apply order."""

    documents: tuple[Document, ...]


def render(plan: Plan, *, target: str = "kubernetes", options: RenderOptions | None = None) -> Manifests:
    """Fill in the templates of a target. Equal plans and options give equal documents.

    Args:
        plan: the decision.
        target: a folder of templates/.
        options: what the cluster decides.

    Raises:
        UsageError: no such target, or options that contradict the plan or are another target's.
        UnsupportedError: the target cannot express the plan.
    """
    if target not in targets():
        raise UsageError(f"No target {target!r}.", hint=f"Targets: {', '.join(targets())}.")
    asked = options or RenderOptions()
    refuse_elsewhere(target, asked)
    if asked.image is not None:  # the plan that travels with the objects names what they run
        plan = replace(plan, engine=replace(plan.engine, image=parse_image(asked.image)))
    module = import_module(f"selfhost.manifests.{target.replace('-', '_')}")
    shown = cast(Callable[..., Any], module.view)(plan, asked)
    names = _templates(target, getattr(module, "BASE", None), getattr(module, "OMIT", frozenset()))
    objects = [name for name in names if name[:1].isdigit()]
    documents = [
        document for name in objects if (document := _fill(names[name], name, shown, plan.name)) is not None
    ]
    shown = replace(shown, resources=tuple(document.name for document in documents))
    others = [name for name in names if name not in objects]
    documents += [
        document for name in others if (document := _fill(names[name], name, shown, plan.name)) is not None
    ]
    documents.append(Document(name=PLAN_FILE, text=to_json(plan)))
    return Manifests(documents=(*documents, *shown.files))


def _templates(target: str, base: str | None, omit: frozenset[str]) -> dict[str, str]:
    """Names of a target's templates in the order of its documents, and the folder of each.

    A target that is made of another's documents names it as its module's BASE, and what it leaves out as OMIT.
    """
    found: dict[str, str] = {}
    for folder in (base, target):
        if folder is not None:
            names = (path.name for path in (asset_dir("templates") / folder).glob(f"[!_]*{_SUFFIX}"))
            found |= {
                name: folder for name in names if folder == target or name.removesuffix(_SUFFIX) not in omit
            }
    return dict(sorted(found.items()))


def _fill(folder: str, name: str, shown: object, called: str) -> Document | None:
    """One template filled in for the plan called so; None when it printed nothing, as nothing of it is needed."""
    text = environment().get_template(f"{folder}/{name}").render(plan=shown)
    written = name.removesuffix(_SUFFIX).replace(_NAME, called)
    return Document(name=written, text=text) if text.strip() else None


__all__ = ["AccessMode", "Document", "Manifests", "RenderOptions", "render", "targets", "write_manifests"]
