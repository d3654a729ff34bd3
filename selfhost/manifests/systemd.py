"""What templates/systemd/ sees as `plan`: a plan as services of one machine, with an engine that is installed there.

Where an image has /weights and a home, a machine has directories that systemd makes and gives to the service; the
engine's words and variables are translated. In ExecStart= `$` begins a variable: what is meant literally is `$$` here.
Read in systemd.exec(5), systemd.service(5) and systemd.resource-control(5) of systemd 252, 2026-11-26.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

from selfhost.engines import Argument
from selfhost.errors import PlanFormatError, UnsupportedError, UsageError
from selfhost.manifests.access import KEY_PATH, key_arguments
from selfhost.manifests.box import ASK, Setting, caution, check_gpus, refuse_cluster, stop_seconds
from selfhost.manifests.devices import chosen_gpus, device_classes
from selfhost.manifests.document import Document
from selfhost.manifests.download import download
from selfhost.manifests.kubernetes import headline
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.outbound import download_additions, refuse_idle
from selfhost.manifests.pod import Noted, Number
from selfhost.manifests.weights import marker_of, placed
from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive
from selfhost.plan import Plan
from selfhost.units import size_text

_MEANT = frozenset(("--weights", "--bind", "--gpu-device", "--engine-bin", "--token-secret"))
# Programs by which the engines are started, and where they are if nobody says. The others run from their images alone.
_PROGRAMS = {
    "vllm": "/opt/selfhost/venv/bin/vllm",
    "sglang": "/opt/selfhost/venv/bin/python3",
    "llamacpp": "/opt/selfhost/bin/llama-server",
}
_OWN_ADDRESS = {"vllm": "VLLM_HOST_IP", "sglang": "SGLANG_HOST_IP"}  # as selfhost/engines/*/nodes.py
_PYTHON = "/opt/selfhost/venv/bin/python3"
_PATH = "/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin"
_HOST = "--host"  # of vLLM's, SGLang's and llama.cpp's parsers
_TOKEN, _KEY = "hf-token", "api-key"
# The shell's own `read`, so that the key is in no argument and no file beside the credential.
_START = """\
[ -e "$1" ] || { echo "$1 is not there: copy the weights, so that it is" >&2; exit 78; }
shift
[ -x "$1" ] || { echo "$1 is not there, or no program: install the engine, or render with --engine-bin" >&2; exit 78; }
exec "$@"
"""
_START_WITH_KEY = """\
IFS= read -r key <"$CREDENTIALS_DIRECTORY/$2" || [ -n "$key" ] || exit 1
export "$1=$key"
shift 2
"""
_READY = """\
ask() (
"""
_READY_END = """\
)
until ask "$1" "$2" 2>/dev/null; do
  kill -0 "$MAINPID" 2>/dev/null || exit 1
  sleep 2
done
"""
_FETCH = """\
[ ! -e "$1" ] || exit 0
shift
exec "$@"
"""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")
_LONGEST_USER = 31  # characters (systemd.io, "User/Group Name Syntax")
_STARTS = 3  # ours: what has failed three times does not mend itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A credential: a file that root alone reads, and the service while it runs."""

    name: str
    path: str
    text: str
    caution: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """The service that fetches the weights."""

    command: tuple[str, ...]
    env: tuple[Setting, ...]
    token_name: str
    token_path: str
    seconds: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a template may print; `files` are written as they are."""

    name: str
    user: str
    headline: tuple[str, ...]
    model_id: str
    command: tuple[str, ...]
    ready: tuple[str, ...]
    env: tuple[Setting, ...]
    words: tuple[Noted, ...]
    devices: tuple[str, ...]
    groups: tuple[str, ...]
    secret: Secret | None
    fetch: Fetch | None
    state: str
    cache: str
    weights: str
    marker: str
    program: str
    python: str
    home_visible: bool
    memory: Noted
    shm: Noted
    shm_because: str
    start: Number
    stop: Number
    starts: int
    starts_within: Number
    local: bool
    bind: str
    served_at: str
    port: int
    archive: str
    files: tuple[Document, ...]
    resources: tuple[str, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: more than one machine holds, or an engine that runs from its image alone.
        UsageError: options that contradict the plan, or that only a cluster has a place for.
    """
    refuse_cluster("systemd", plan, options, meant=_MEANT)
    check_gpus(plan, options)
    program = _program(plan, options)
    source = options.weights.source
    if source is not None and source.kind not in ("hf", "hostpath"):
        raise UsageError(
            f"--weights {source.kind}: a service of one machine reads a directory.",
            hint="Mount or copy them there, and say --weights hostpath:/DIRECTORY.",
        )
    plan = placed(plan, options)
    state, cache = f"/var/lib/selfhost/{plan.name}", f"/var/cache/selfhost/{plan.name}"
    plan = _translated(plan, options, state, cache)
    secret = _secret(plan, options)
    words = _words(plan, options)
    fetch = _fetch(plan, options, program, state, cache)
    refuse_idle(options, downloads=fetch is not None)
    stop, because = stop_seconds(plan)
    load = plan.clocks.load_seconds
    pod, engine = plan.pod, plan.engine
    within = (load.value + stop + 60) * (_STARTS + 1)
    named = _named(options.box.bind)
    address = f"http://{named}:{engine.port}{engine.health_path}"
    folder = program.rpartition("/")[0]
    env = (
        Setting(
            name="PATH", value=f"{folder}:{_PATH}", because="what kernels are compiled with, where they are"
        ),
        *(Setting(name=one.name, value=one.value, because=one.because) for one in engine.env),
        *(_loopback(plan) if options.box.local else ()),
        *chosen_gpus(plan, options),
    )
    _refuse_control(env, words)
    return View(
        name=plan.name,
        user=_user(plan.name),
        headline=(*headline(plan), *caution(plan, options)),
        model_id=plan.model.id,
        command=_command(plan, program, secret, words),
        ready=tuple(map(_plain, ("/bin/sh", "-c", f"{_READY}{ASK}{_READY_END}", "ready", address, "5"))),
        env=env,
        words=words,
        devices=device_classes(plan),
        groups=("video", "render") if plan.gpu.on in ("rocm", "xpu") else (),
        secret=secret,
        fetch=fetch,
        state=state,
        cache=cache,
        weights=plan.weights.mount_path,
        marker=marker_of(plan),
        program=program,
        python=_python(program),
        home_visible=program.startswith("/home/"),
        memory=Noted(value=str(pod.memory_bytes.value), because=pod.memory_bytes.because),
        shm=Noted(value=size_text(pod.shared_memory_bytes.value), because=pod.shared_memory_bytes.because),
        shm_because=pod.shared_memory_bytes.because,
        start=Number(value=load.value + 60, because=f"{load.because}; 60 s to start what asks"),
        stop=Number(value=stop, because=because),
        starts=_STARTS,
        starts_within=Number(value=within, because=f"{_STARTS} starts that each take as long as they may"),
        local=options.box.local,
        bind=options.box.bind,
        served_at=named,
        port=engine.port,
        archive=ARCHIVE_FILE,
        files=() if fetch is None else (Document(name=ARCHIVE_FILE, data=pull_archive()),),
        resources=(),
    )


def _program(plan: Plan, options: RenderOptions) -> str:
    if plan.engine.name not in _PROGRAMS:
        raise UnsupportedError(
            f"{plan.engine.name} runs from its image; a service of the machine would need its own installation.",
            hint="Render it with --target compose, or plan for vllm, sglang or llamacpp.",
        )
    return options.box.engine_bin or _PROGRAMS[plan.engine.name]


def _loopback(plan: Plan) -> tuple[Setting, ...]:
    """What keeps processes of one server from looking for each other at the machine's own address.

    Read in vllm/utils/network_utils.py of 0.32.0 and NVIDIA's NCCL_SOCKET_IFNAME on 2026-11-26.
    """
    because = "the machine's other addresses are closed to the service"
    pairs = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
    own = _OWN_ADDRESS.get(plan.engine.name)
    if own is None:
        return ()
    return tuple(
        Setting(name=name, value=value, because=because)
        for name, value in ({own: "127.0.0.1"} | pairs).items()
    )


def _python(program: str) -> str:
    """The Python that runs selfhost.pyz: that of the engine's environment, which has the Hub library."""
    folder, _, name = program.rpartition("/")
    return f"{folder}/python3" if name in ("vllm", "python3") else _PYTHON


def _user(name: str) -> str:
    """The service's user, which systemd makes for as long as it runs; names have at most 31 characters."""
    user = f"llm-{name}"
    if len(user) <= _LONGEST_USER:
        return user
    return f"llm-{name[:18].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _translated(plan: Plan, options: RenderOptions, state: str, cache: str) -> Plan:
    """The plan with the machine's directories in place of the image's."""
    source = options.weights.source
    places = [(plan.weights.mount_path, f"{state}/weights"), (plan.engine.home_path, cache)]
    if source is not None and source.kind == "hostpath":
        location = plan.weights.location
        inside = location.rpartition("/")[0] if plan.model.origin == "gguf" else location
        places.insert(0, (inside, source.name))

    def moved(text: str) -> str:
        for old, new in places:
            if old and old != "/" and (text == old or text.startswith(f"{old}/")):
                return new + text[len(old) :]
        return text

    engine, weights = plan.engine, plan.weights
    args = tuple(
        word if word.value is None else replace(word, value=moved(word.value)) for word in engine.args
    )
    env = tuple(replace(item, value=moved(item.value)) for item in engine.env if item.name != "USER")
    return replace(
        plan,
        engine=replace(engine, args=args, env=env),
        weights=replace(
            weights,
            location=moved(weights.location),
            mount_path=moved(weights.mount_path),
            cache_path=moved(weights.cache_path),
        ),
    )


def _words(plan: Plan, options: RenderOptions) -> tuple[Noted, ...]:
    """The engine's arguments, which listen at the address that was asked for; those of a pod listen at every one."""
    bind, because = options.box.bind, "the address of --bind"
    words: list[Argument] = []
    skip = False
    for word in plan.engine.args:
        if skip:
            skip = False
            continue
        if word.flag == _HOST:
            skip = word.value is None
            continue
        words.append(word)
    words += [Argument(flag=_HOST, because=because), Argument(value=bind, because=because)]
    found = [Noted(value=_plain(word.text), because=word.because) for word in words]
    if plan.engine.key is not None and plan.engine.key.variable is None:
        found += [
            Noted(value=_credential(word), because=word.because) for word in key_arguments(plan, options)
        ]
    return tuple(found)


def _credential(word: Argument) -> str:
    """The argument that names the key's file, in the directory that systemd makes for the credentials."""
    text = word.text
    return (
        f"${{CREDENTIALS_DIRECTORY}}/{text.rpartition('/')[2]}" if text.startswith(KEY_PATH) else _plain(text)
    )


def _plain(text: str) -> str:
    return text.replace("$", "$$")


def _secret(plan: Plan, options: RenderOptions) -> Secret | None:
    key_arguments(plan, options)  # refuses an engine that checks no key
    name, key = options.access.api_key_secret, plan.engine.key
    if name is None or key is None:
        return None
    text, entry = key.file_text.replace("{key}", "%s"), key.file_name or _KEY
    if _CREDENTIAL.fullmatch(entry) is None:
        raise PlanFormatError(f"engine.key.file_name: {entry[:80]!a} is no name of a credential.")
    return Secret(name=entry, path=f"/etc/selfhost/{plan.name}/{name}", text=text, caution=key.caution)


def _command(plan: Plan, program: str, secret: Secret | None, words: tuple[Noted, ...]) -> tuple[str, ...]:
    """A shell that reads the key, says what is missing, and becomes the engine."""
    script, first = _START, ["start", marker_of(plan)]
    key = plan.engine.key
    if secret is not None and key is not None and key.variable is not None:
        script, first = _START_WITH_KEY + _START, ["start", key.variable, secret.name, marker_of(plan)]
    before = map(_plain, ("/bin/sh", "-c", script, *first, program, *plan.engine.command[1:]))
    return (*before, *(word.value for word in words))


def _named(bind: str) -> str:
    if bind in ("0.0.0.0", "::"):
        return "127.0.0.1" if bind == "0.0.0.0" else "[::1]"
    return f"[{bind}]" if ":" in bind else bind


def _refuse_control(env: tuple[Setting, ...], words: tuple[Noted, ...]) -> None:
    """systemd drops a variable with a control character in it, and a word with a zero byte, and only logs that."""
    for item in env:
        if not item.value.replace("\t", "").isprintable() or not _VARIABLE.fullmatch(item.name):
            raise PlanFormatError(f"engine.env: {item.name[:40]!a} is no variable of one printable line.")
    for word in words:
        if "\0" in word.value:
            raise PlanFormatError("engine.args: an argument holds a zero byte.")


def _fetch(plan: Plan, options: RenderOptions, program: str, state: str, cache: str) -> Fetch | None:
    if plan.weights.kind != "hub":
        return None
    if options.pull_image is not None:
        raise UsageError("--pull-image has no effect with --target systemd.", hint="Leave it out.")
    found = download(plan, options, marker=marker_of(plan))
    words = tuple(word.text for word in found.words)
    archive = f"/opt/selfhost/{plan.name}/{ARCHIVE_FILE}"
    env = [
        Setting(name="HOME", value=cache, because="writable"),
        Setting(
            name="HF_HOME",
            value=f"{cache}/huggingface",
            because="what the Hub library writes besides weights",
        ),
        Setting(name="HF_HUB_CACHE", value=plan.weights.cache_path, because="the weights"),
        Setting(name="HF_HUB_DISABLE_TELEMETRY", value="1", because="no usage reports"),
    ]
    if options.hub_endpoint is not None:
        env.append(Setting(name="HF_ENDPOINT", value=options.hub_endpoint, because="the mirror, as asked"))
    env += [
        Setting(name=item.name, value=item.value, because=item.because)
        for item in download_additions(options).env
        if item.value is not None
    ]
    clocks = plan.clocks
    return Fetch(
        command=tuple(
            map(_plain, ("/bin/sh", "-c", 'exec "$@"', "download", _python(program), archive, *words))
        ),
        env=tuple(env),
        token_name=_TOKEN,
        token_path=f"/etc/selfhost/{plan.name}/{options.token_secret}",
        seconds=Number(
            value=clocks.download_deadline_seconds.value, because=clocks.download_deadline_seconds.because
        ),
    )
