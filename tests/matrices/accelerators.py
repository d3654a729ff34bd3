"""Every accelerator of the catalogue under the first engine, whole; and the parts of those that can be divided."""

from __future__ import annotations

from selfhost.catalog.gpus import gpus
from tests.matrices import Case, fitting

PARTS = ("h100-sxm-80gb:3g.40gb", "a100-sxm-80gb:3g.40gb", "h200-sxm-141gb:2g.35gb", "b200-sxm-180gb:3g.90gb")
REFUSED = {"v100-sxm-32gb"}  # compute capability 7.0, for which vLLM's image has no kernels


def cases() -> dict[str, Case]:
    """A small model on one of each, and on eight of those that come by eight."""
    found = {}
    for gpu in gpus():
        if gpu.id in REFUSED or gpu.vendor not in ("NVIDIA", "AMD"):
            continue  # the others have families of their own
        found[gpu.id] = Case(plan=fitting(gpu.id))
        if gpu.form_factor.startswith("SXM"):
            found[f"{gpu.id}-eight"] = Case(plan=fitting(gpu.id, tensor=8))
    return found | {name: Case(plan=fitting(name)) for name in PARTS}
