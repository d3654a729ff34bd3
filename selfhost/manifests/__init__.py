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
from selfhost.manifests.output import write_manifests
from selfhost.plan import Plan, to_json

PLAN_FILE = "plan.json"
_SUFFIX = ".j2"


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
        UsageError: no such target, or options that contradict the plan.
        UnsupportedError: the target cannot express the plan.
    """
    if target not in targets():
        raise UsageError(f"No target {target!r}.", hint=f"Targets: {', '.join(targets())}.")
    asked = options or RenderOptions()
    if asked.image is not None:  # the plan that travels with the objects names what they run
        plan = replace(plan, engine=replace(plan.engine, image=parse_image(asked.image)))
    module = import_module(f"selfhost.manifests.{target.replace('-', '_')}")
    translate = cast(Callable[..., Any], module.view)
    shown = translate(plan, asked)
    folder = asset_dir("templates") / target
    names = sorted(path.name for path in folder.glob(f"[!_]*{_SUFFIX}"))
    objects = [name for name in names if name[:1].isdigit()]
    documents = [document for name in objects if (document := _fill(target, name, shown)) is not None]
    shown = replace(shown, resources=tuple(document.name for document in documents))
    others = [name for name in names if name not in objects]
    documents += [document for name in others if (document := _fill(target, name, shown)) is not None]
    documents.append(Document(name=PLAN_FILE, text=to_json(plan)))
    return Manifests(documents=(*documents, *shown.files))


def _fill(target: str, name: str, shown: object) -> Document | None:
    """One template filled in; None when it printed nothing, because the plan does not need that object."""
    text = environment().get_template(f"{target}/{name}").render(plan=shown)
    return Document(name=name.removesuffix(_SUFFIX), text=text) if text.strip() else None


__all__ = ["AccessMode", "Document", "Manifests", "RenderOptions", "render", "targets", "write_manifests"]
