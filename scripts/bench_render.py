"""Speed of rendering and of the linter, a thousand plans and a thousand documents; exits with 1 past a limit.

Everything is processor time, so that what else runs on the machine matters little. Beside each figure stands what a
peer needs for the same: Helm for one `helm template` of the chart, kubernetes-validate for the same documents.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

PLANS, DOCUMENTS = 1000, 1000
RENDER_SECONDS, LINT_SECONDS = 20.0, 5.0
PEER_DOCUMENTS = 60  # kubernetes-validate takes most of a second for each


def plans() -> list[str]:
    """Texts of a thousand plans: GPUs, sizes of the group, replicas, contexts."""
    from selfhost.catalog.gpus import gpus
    from selfhost.errors import SelfhostError
    from selfhost.plan import to_json
    from selfhost.workload import Workload
    from tests.matrices import fitting

    made: list[str] = []
    for gpu, tensor, replicas, length in product(gpus(), (1, 2, 4, 8), (1, 2, 3), (8192, 16384)):
        workload = Workload(max_model_len=length, concurrency=16)
        try:
            name = f"model-{len(made)}"  # apart, as the linter looks at objects of one name together
            decided = fitting(gpu.id, tensor=tensor, replicas=replicas, workload=workload, name=name)
            made.append(to_json(decided))
        except SelfhostError:
            continue  # no kernels, or no image for it
    # Evenly over the list, so that every GPU is among them.
    return made[:: len(made) // PLANS][:PLANS] if len(made) >= PLANS else list(islice(cycle(made), PLANS))


def processor_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of this process for some work, and its result."""
    gc.collect()
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def children_seconds(words: Sequence[str | Path], expected: Sequence[int] = (0,)) -> float:
    """Processor time of a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in expected:
        raise SystemExit(f"{words[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rendering(texts: list[str]) -> tuple[float, list[str]]:
    """Seconds to read and render every plan, and a thousand of the documents."""
    from selfhost.manifests import render
    from selfhost.plan import from_json

    render(from_json(texts[0]))  # templates and the archive are made once in a process
    documents: list[str] = []

    def work() -> None:
        for text in texts:
            manifests = render(from_json(text))
            if len(documents) < DOCUMENTS:
                documents.extend(d.text for d in manifests.documents if d.is_object)

    seconds, _ = processor_seconds(work)
    return seconds, documents[:DOCUMENTS]


def helm_seconds() -> float | None:
    """Processor time of one `helm template` of the chart, None without Helm or chart."""
    from tests.programs import _found

    program, chart = _found("helm", "HELM"), ROOT / "charts" / "selfhost"
    if program is None or not chart.is_dir():
        return None
    words: list[str | Path] = [program, "template", "x", chart]
    return min(children_seconds(words) for _ in range(3))


def validating_seconds(documents: list[str]) -> float:
    """Processor time of kubernetes-validate for some of the documents, as if for all."""
    import kubernetes_validate
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    values = [yaml.load(text, loader) for text in documents]
    own = [value for value in values if "monitoring.coreos.com" not in value["apiVersion"]][:PEER_DOCUMENTS]
    seconds, _ = processor_seconds(
        lambda: [kubernetes_validate.validate(v, "1.37", strict=True) for v in own]
    )
    return seconds / len(own) * len(documents)


def linting(documents: list[str]) -> float | None:
    """Processor time of `selfhost lint` over one file of all documents, its start included."""
    if not (ROOT / "selfhost" / "cli" / "lint.py").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.yaml"
        path.write_text("\n---\n".join(documents), encoding="utf-8")
        words: list[str | Path] = [sys.executable, "-m", "selfhost", "lint", path]
        return min(children_seconds(words) for _ in range(3))


def main() -> int:
    """Run everything and compare with the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slack", type=float, default=1.0, help="factor on every limit, for busy machines")
    slack = parser.parse_args().slack
    texts = plans()
    render_seconds, documents = rendering(texts)
    rows = [(f"{len(texts):,} plans rendered", render_seconds, RENDER_SECONDS)]
    lint_seconds = linting(documents)
    if lint_seconds is not None:
        rows.append((f"{len(documents):,} documents by selfhost lint", lint_seconds, LINT_SECONDS))
    failed = False
    for name, value, allowed in rows:
        late = value > allowed * slack
        failed |= late
        print(f"{name:<40}{value:8.2f} s   limit {allowed * slack:g}{'   TOO MUCH' if late else ''}")
    helm = helm_seconds()
    if helm is not None:
        each = render_seconds / len(texts)
        print(
            f"one render {each * 1000:.1f} ms, one `helm template` {helm * 1000:.0f} ms: {helm / each:.1f} ×"
        )
    if lint_seconds is not None:
        peer = validating_seconds(documents)
        print(f"kubernetes-validate for the same documents {peer:.1f} s: {peer / lint_seconds:.1f} ×")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
