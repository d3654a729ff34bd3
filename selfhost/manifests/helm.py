"""What templates/helm/ sees as `plan`: the view of Kubernetes and a test request; chart and values go beside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from selfhost import __version__
from selfhost.manifests import kubernetes
from selfhost.manifests.chart.shapes import FLAT, ChartFile
from selfhost.manifests.document import Document
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Noted, Number, Pair, SecretKey
from selfhost.manifests.requests import SCRIPT, SCRIPT_FILE, Request, request_of
from selfhost.manifests.server import USER_ID, labels
from selfhost.manifests.zipapp import ARCHIVE_FILE
from selfhost.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class TestView:
    """The pod of `helm test`: one real request through the Service.

    Args:
        name: of the pod.
        labels: none of them selects the server.
        image: the server's own, which is on the nodes already.
        shell: absolute path of a POSIX shell in it.
        script: sends the request by what the image has: Python, curl or bash. It lies in the chart.
        port: of the Service, as text.
        path: of the request.
        model: the name that clients ask for.
        body: JSON of the request.
        body_in_shell: the same between single quotes of a shell, for the notes.
        answer: what a right answer holds.
        key: Secret with the key that clients send, null where none is asked for.
        key_template: how kubectl prints that key.
        deadline: seconds that the request may take.
        user_id: of the process; not root.
    """

    __test__ = False  # for pytest: no test of ours

    name: str
    labels: tuple[Pair, ...]
    image: Noted
    shell: str
    script: Annotated[str, ChartFile(SCRIPT_FILE, word=True)]
    port: str
    path: Noted
    model: str
    body: str
    body_in_shell: str
    answer: Noted
    key: SecretKey | None
    key_template: str
    deadline: Number
    user_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The values of the chart, and what its README says besides.

    Args:
        kubernetes: what templates/kubernetes/ see.
        archive: selfhost.pyz, which lies in the chart.
        test: the request of `helm test`.
        wait: how long `helm --wait` may take.
        version: of selfhost.
        files: written as they are.
        resources: names of the objects' files.
    """

    kubernetes: Annotated[kubernetes.View, FLAT]
    archive: Annotated[str, ChartFile(f"files/{ARCHIVE_FILE}")]
    test: TestView
    wait: Number
    version: str
    files: tuple[Document, ...]
    resources: tuple[str, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: what one pod cannot be.
        UsageError: options that contradict the plan.
    """
    from dataclasses import replace

    from selfhost.manifests.chart import chart_files, values_text

    made = values_view(plan, options)
    chart = tuple(Document(name=f"chart/{path}", data=data) for path, data in chart_files().items())
    return replace(made, files=(Document(name="values.yaml", text=values_text(made)), *chart))


def values_view(plan: Plan, options: RenderOptions) -> View:
    """The values alone, without the files beside them."""
    shown = kubernetes.view(plan, options)
    return View(
        kubernetes=shown,
        archive="",
        test=_test(plan, options, request_of(plan)),
        wait=_wait(plan, downloads=shown.download is not None),
        version=__version__,
        files=(),
        resources=(),
    )


def _test(plan: Plan, options: RenderOptions, request: Request) -> TestView:
    secret = options.access.api_key_secret
    body = json.dumps(request.body)
    return TestView(
        name=f"{plan.name}-test",
        labels=labels(plan, "test"),
        image=Noted(value=plan.engine.image.reference, because="the server's own"),
        shell=plan.engine.shell,
        script=SCRIPT,
        port=str(plan.engine.port),
        path=Noted(value=request.path, because=request.because),
        model=request.model,
        body=body.replace("$", "$$"),
        body_in_shell=body.replace("'", "'\\''"),
        answer=Noted(value=request.answer, because="stands in an answer, with something in it"),
        key=None if secret is None else SecretKey(name=secret, key="api-key"),
        key_template='{{index .data "api-key" | base64decode}}',
        deadline=Number(value=600, because="a first request may compile kernels"),
        user_id=USER_ID,
    )


def _wait(plan: Plan, *, downloads: bool) -> Number:
    deadline = plan.clocks.progress_deadline_seconds.value
    if not downloads:
        return Number(value=deadline, because="as long as the server may take to start")
    pull = plan.clocks.download_deadline_seconds.value
    return Number(value=deadline + pull, because="as long as the download and then the server may take")
