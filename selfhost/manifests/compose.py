"""What templates/compose/ sees as `plan`: a plan on one machine with Docker or Podman, by the Compose specification.

Compose reads `$` in every value: what is meant literally is written `$$` here, so that templates print it as it stands.
Read in compose-spec/compose-spec at 170098b (05-services.md, schema/compose-spec.json) on 2026-11-26.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.errors import UsageError
from selfhost.manifests.access import KEY_PATH, key_arguments
from selfhost.manifests.box import ASK, Setting, caution, check_gpus, refuse_cluster, stop_seconds
from selfhost.manifests.boxed_weights import Kept, fetched, kept
from selfhost.manifests.devices import Passed, passed
from selfhost.manifests.document import Document
from selfhost.manifests.download import download
from selfhost.manifests.kubernetes import headline
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.outbound import download_additions, refuse_idle
from selfhost.manifests.pod import Noted, Number
from selfhost.manifests.quantities import literal
from selfhost.manifests.server import USER_ID, file_key, image_of
from selfhost.manifests.weights import placed
from selfhost.plan import Derived, Plan
from selfhost.units import GIB, MIB

_MEANT = frozenset(
    (
        "--weights",
        "--s3-secret",
        "--s3-endpoint",
        "--s3-image",
        "--bind",
        "--gpu-device",
        "--cdi",
        "--writable-root",
    )
)
_KEY = "/run/secrets"
# The shell's own `read`, as an image may have no cat; the last line of a file may have no end.
FROM_FILE = """\
IFS= read -r key <"$2" || [ -n "$key" ] || exit 1
export "$1=$key"
shift 2
exec "$@"
"""
_OWN = 'chown "$1" "$2" "$3"'
_OWN_HOME = 'chown "$1" "$2"'
_SECRETS = "./secrets"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of this folder, or of the machine, as a container sees it."""

    source: str
    target: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that is a file of this folder. `entry` is how it is written, with KEY for the key."""

    name: str
    file: str
    target: str
    text: str
    caution: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The health check."""

    command: tuple[str, ...]
    interval: Number
    timeout: Number
    start: Number
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A container that starts before the server and ends."""

    image: Noted
    entrypoint: tuple[str, ...]
    command: tuple[Noted, ...]
    env: tuple[Setting, ...]
    files: tuple[File, ...]
    tokens: bool
    env_file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a template may print; `files` are written as they are."""

    name: str
    headline: tuple[str, ...]
    model_id: str
    image: Noted
    entrypoint: tuple[str, ...]
    args: tuple[Noted, ...]
    env: tuple[Setting, ...]
    user: Noted
    as_root: bool
    owner: str
    prepare: tuple[str, ...]
    prepare_home: tuple[str, ...]
    download: Service | None
    kept: Kept
    passed: Passed
    secret: Secret | None
    config_files: tuple[File, ...]
    home: str
    shm: Noted
    tmp: Noted
    cpus: Noted
    memory: Noted
    read_only_root: bool
    check: Check
    stop: Noted
    bind: str
    listens: str
    ports: tuple[Number, ...]
    port: int
    served_at: str
    files: tuple[Document, ...]
    resources: tuple[str, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: more than one machine holds.
        UsageError: options that contradict the plan, or that only a cluster has a place for.
    """
    refuse_cluster("compose", plan, options, meant=_MEANT)
    check_gpus(plan, options)
    plan = placed(plan, options)
    where = kept(plan, options)
    pull = _download(plan, options, where)
    refuse_idle(options, downloads=pull is not None)
    given = passed(plan, options)
    secret = _secret(plan, options)
    stop, because = stop_seconds(plan)
    pod, engine = plan.pod, plan.engine
    memory = Derived(
        value=pod.memory_bytes.value + pod.tmp_bytes.value,
        because=f"{pod.memory_bytes.because}; so does /tmp",
    )
    return View(
        name=plan.name,
        headline=(*headline(plan), *given.said, *caution(plan, options)),
        model_id=plan.model.id,
        image=image_of(plan),
        entrypoint=_entrypoint(plan, secret),
        args=_words(plan, options),
        env=(*(_setting(one.name, one.value, one.because) for one in engine.env), *given.env),
        user=_user(plan),
        as_root=engine.needs_root is not None,
        owner=f"{USER_ID}:{USER_ID}",
        prepare=(
            engine.shell,
            "-c",
            literal(_OWN),
            "own",
            f"{USER_ID}:{USER_ID}",
            literal(where.path),
            literal(engine.home_path),
        ),
        prepare_home=(
            engine.shell,
            "-c",
            literal(_OWN_HOME),
            "own",
            f"{USER_ID}:{USER_ID}",
            literal(engine.home_path),
        ),
        download=pull,
        kept=where,
        passed=given,
        secret=secret,
        config_files=tuple(
            File(source=f"./engine/{file_key(one.path)}", target=literal(one.path), because=one.because)
            for one in engine.files
        ),
        home=literal(engine.home_path),
        shm=_size(pod.shared_memory_bytes),
        tmp=_size(pod.tmp_bytes),
        cpus=Noted(value=str(pod.cpu_limit.value), because=pod.cpu_limit.because),
        memory=_size(memory),
        read_only_root=options.read_only_root,
        check=_check(plan),
        stop=Noted(value=f"{stop}s", because=because),
        bind=options.box.bind,
        listens="Every address of the machine" if options.box.everywhere else f"Only {options.box.bind}",
        ports=_ports(plan),
        port=engine.port,
        served_at=_address(options.box.bind),
        files=(
            *(Document(name=f"engine/{file_key(one.path)}", text=one.text) for one in engine.files),
            *fetched(pull is not None and options.pull_image is None and where.fill == "pull"),
        ),
        resources=(),
    )


def _setting(name: str, value: str, because: str) -> Setting:
    return Setting(name=name, value=literal(value), because=because)


def _address(bind: str) -> str:
    """How the machine itself calls the server."""
    if bind == "0.0.0.0":
        return "127.0.0.1"
    if bind == "::":
        return "[::1]"
    return f"[{bind}]" if ":" in bind else bind


def _size(derived: Derived) -> Noted:
    """Bytes as Compose writes them: its `g` and `m` are powers of 1,024."""
    size = derived.value
    unit, suffix = (GIB, "g") if size % GIB == 0 else (MIB, "m") if size % MIB == 0 else (1, "b")
    return Noted(value=f"{size // unit}{suffix}", because=derived.because)


def _user(plan: Plan) -> Noted:
    if plan.engine.needs_root is not None:
        return Noted(value="0:0", because=plan.engine.needs_root)
    return Noted(value=f"{USER_ID}:{USER_ID}", because="any ID runs the image; this one owns nothing else")


def _secret(plan: Plan, options: RenderOptions) -> Secret | None:
    """The key's file, at the place where the engine looks for it or where the entrypoint reads it."""
    arguments = key_arguments(plan, options)
    name, key = options.access.api_key_secret, plan.engine.key
    if name is None or key is None:
        return None
    target = f"{_KEY}/{name}" if not arguments else f"{KEY_PATH}/{key.file_name or 'api-key'}"
    return Secret(
        name=name,
        file=f"{_SECRETS}/{name}",
        target=target,
        text=key.file_text.replace("{key}", "%s"),
        caution=key.caution,
    )


def _entrypoint(plan: Plan, secret: Secret | None) -> tuple[str, ...]:
    """The engine's command; a shell before it reads the key, where the engine takes it as a variable alone."""
    command, key = plan.engine.command, plan.engine.key
    if secret is not None and key is not None and key.variable is not None:
        command = (plan.engine.shell, "-c", FROM_FILE, "key", key.variable, secret.target, *command)
    return tuple(map(literal, command))


def _words(plan: Plan, options: RenderOptions) -> tuple[Noted, ...]:
    words = (*plan.engine.args, *key_arguments(plan, options))
    return tuple(Noted(value=literal(word.text), because=word.because) for word in words)


def _ports(plan: Plan) -> tuple[Number, ...]:
    found = [Number(value=plan.engine.port, because="requests")]
    if plan.engine.metrics_port is not None:
        found.append(Number(value=plan.engine.metrics_port, because="metrics"))
    return tuple(found)


def _check(plan: Plan) -> Check:
    engine, clocks = plan.engine, plan.clocks
    timeout = engine.probe_timeout_seconds
    address = f"http://127.0.0.1:{engine.port}{engine.live_path or engine.health_path}"
    return Check(
        command=("CMD", *map(literal, (engine.shell, "-c", ASK, "ask", address, str(timeout)))),
        interval=Number(value=clocks.probe_period_seconds.value, because=clocks.probe_period_seconds.because),
        timeout=Number(value=timeout + 5, because=f"{engine.probe_because}; 5 s to start what asks"),
        start=Number(value=clocks.load_seconds.value, because=clocks.load_seconds.because),
        because="needs no key",
    )


def _download(plan: Plan, options: RenderOptions, where: Kept) -> Service | None:
    """What fills the volume, once: with the marker there it ends at once, also without a network."""
    if where.fill == "nobody":
        return None
    found = download(plan, options, marker=where.marker)
    home = plan.engine.home_path
    env = [_setting("HOME", home, "writable")]
    if found.kind == "pull":
        env += [
            _setting("USER", "selfhost", "this user ID has no passwd entry"),
            _setting("HF_HOME", f"{home}/huggingface", "what the Hub library writes besides weights"),
            _setting("HF_HUB_CACHE", plan.weights.cache_path, "the weights volume"),
            _setting("HF_TOKEN_PATH", f"{_KEY}/token", "a file, so that the token is in no environment"),
            _setting("HF_HUB_DISABLE_TELEMETRY", "1", "no usage reports"),
        ]
        if options.hub_endpoint is not None:
            env.append(_setting("HF_ENDPOINT", options.hub_endpoint, "the mirror, as asked"))
    for item in download_additions(options).env:
        if item.value is None:
            raise UsageError(f"{item.name} cannot be read from a Secret here.", hint="Use --https-proxy.")
        env.append(_setting(item.name, item.value, item.because))
    script = 'marker=$1; shift; [ ! -e "$marker" ] || exit 0; exec "$@"'
    own = found.archive and found.kind == "pull"
    because = "selfhost pull and what it imports"
    return Service(
        image=Noted(value=found.image.reference, because=found.image_because),
        entrypoint=tuple(map(literal, ("/bin/sh", "-c", script, "download", where.marker, *found.command))),
        command=tuple(Noted(value=literal(word.text), because=word.because) for word in found.words),
        env=tuple(env),
        files=(File(source="./selfhost.pyz", target="/opt/selfhost/selfhost.pyz", because=because),)
        if own
        else (),
        tokens=found.kind == "pull",
        env_file=f"{_SECRETS}/{options.weights.s3_secret}.env" if options.weights.s3_secret else None,
    )
