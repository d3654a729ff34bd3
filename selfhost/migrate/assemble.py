"""One server of TGI to the command line, variables, port and clocks of another engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from selfhost.catalog.accelerators import Platform
from selfhost.catalog.flags import known_flags, release
from selfhost.engines import EngineVersion, get_engine
from selfhost.errors import UnsupportedError
from selfhost.lint.images import image_version
from selfhost.migrate.convert import Converted, convert
from selfhost.migrate.given import Given, Setting
from selfhost.migrate.shell import REFERENCE, joined, shell_line
from selfhost.migrate.table import NAMES, table
from selfhost.migrate.types import Change, Server, Unmatched

GRACE_SECONDS = 90  # launcher/src/main.rs, graceful_termination_timeout
IMAGE_PORT, LAUNCHER_PORT = 80, 3000  # Dockerfile, launcher/src/main.rs
MARGIN_SECONDS = 30  # ours: time to end endpoints and processes around the draining itself
_HF_HOME_SINCE = (2, 3, 0)  # Dockerfile: HUGGINGFACE_HUB_CACHE=/data before
_TENSOR = {"vllm": "--tensor-parallel-size", "sglang": "--tp-size"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one setting became, for those who write it into a file.

    Args:
        setting: it; None for what was added.
        words: on the new command line.
        env: variables: name, and value or None for the one that was there.
        keep: the old variable stays, as the new words refer to it.
        because: why.
    """

    setting: Setting | None
    words: tuple[str, ...] = ()
    env: tuple[tuple[str, str | None], ...] = ()
    keep: bool = False
    because: str = ""


@dataclass(slots=True)
class Assembled:
    """A server with everything that is said about it."""

    given: Given
    pieces: list[Piece] = field(default_factory=list)
    server: Server | None = None
    arguments: list[Change] = field(default_factory=list)
    environment: list[Change] = field(default_factory=list)
    serving: list[Change] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)
    port: int | None = None
    old_port: int | None = None
    grace_seconds: int | None = None


def assemble(given: Given, version: EngineVersion) -> Assembled:
    """Migrate a server.

    Args:
        given: it.
        version: the new engine.
    """
    made = Assembled(given=given)
    _model(made, version)
    for setting in given.settings:
        if setting.row.name != "MODEL_ID":
            _setting(made, setting, version)
    _defaults(made, version)
    for what, where in given.unknown:
        made.unmatched.append(
            Unmatched(what=what, because="TGI 3.3.7 has no such option", instead="leave it out", where=where)
        )
    cache = _cache(given) if given.elsewhere else None
    for source in given.elsewhere:
        made.unmatched.append(
            Unmatched(
                what=source,
                because="its variables are not in what was given",
                where=given.at,
                instead="give its YAML too, or migrate its variables by the table of docs/migrate.md"
                + (f"; set {cache}=/data unless it names another folder" if cache else ""),
            )
        )
    _ports(made, version)
    _clocks(made, version)
    _finish(made, version)
    return made


def reference(given: Given, name: str) -> str:
    """How a command line refers to a variable."""
    return f"$({name})" if given.kind == "pod" else f"${{{name}}}"


def _model(made: Assembled, version: EngineVersion) -> None:
    given, setting = made.given, made.given.effective("MODEL_ID")
    keep = setting is not None and not setting.flag and setting.value is None
    if setting is None:
        model = reference(given, "MODEL_ID")
        if not given.elsewhere:
            made.unmatched.append(
                Unmatched(
                    what="MODEL_ID",
                    because="nothing names the model",
                    where=given.at,
                    instead="write the model in place of MODEL_ID",
                )
            )
    else:
        model = reference(given, "MODEL_ID") if setting.value is None else setting.value
    row = (setting.row if setting else None) or table().settings["MODEL_ID"]
    outcome = row.outcomes[version.engine]
    words = (model,) if outcome.to is None else (outcome.to, model)
    _add(made, Piece(setting=setting, words=words, keep=keep, because=outcome.because))
    if version.engine == "vllm":
        because = (
            "TGI took any `model` of a request, its documentation says `tgi`; vLLM knows the names it serves"
        )
        _add(made, Piece(setting=None, words=("--served-model-name", model, "tgi"), because=because))


def _setting(made: Assembled, setting: Setting, version: EngineVersion) -> None:
    given = made.given
    counts = given.effective(setting.row.name)
    if setting.row.name == "CORS_ALLOW_ORIGIN" and setting.flag and counts is not None and counts.flag:
        origins = [
            each.value or "" for each in given.settings if each.flag and each.row.name == setting.row.name
        ]  # fmt: skip
        if counts is setting:
            _take(made, setting, convert(setting.row, ",".join(origins), version), version)
        else:
            _add(made, Piece(setting=setting, because="one list holds all of them"))
        return
    if counts is not setting:
        _add(made, Piece(setting=setting, because=f"{counts.shown if counts else 'another'} counts"))
        return
    if setting.row.name == "SHARDED" and given.effective("NUM_SHARD") is not None:
        _add(made, Piece(setting=setting, because="NUM_SHARD says how many"))
        return
    if setting.row.secret and setting.flag:
        _secret(made, setting, version)
        return
    elsewhere = setting.value is None
    value = reference(given, setting.name) if elsewhere else setting.value or ""
    outcome = setting.row.outcomes[version.engine]
    opaque = REFERENCE.fullmatch(value) is not None
    if opaque and outcome.via not in ("same", "reference"):
        made.unmatched.append(
            Unmatched(
                what=setting.shown,
                because="its value is not in what was given",
                where=setting.where,
                instead=f"see {setting.row.name} in docs/migrate.md",
            )
        )
        return
    if outcome.via == "reference":
        value = reference(given, setting.name)
    _take(made, setting, convert(setting.row, value, version), version)


def _secret(made: Assembled, setting: Setting, version: EngineVersion) -> None:
    """A secret on the command line leaves it: its value goes nowhere."""
    outcome = setting.row.outcomes[version.engine]
    refers = REFERENCE.fullmatch(setting.value or "") is not None
    if outcome.to is None:
        _take(made, setting, Converted(because=outcome.because, instead=outcome.instead), version)
        return
    name = outcome.to if not outcome.to.startswith("-") else "API_KEY"
    value = setting.value if refers else None
    words = () if name == outcome.to else (outcome.to, reference(made.given, name))
    _add(made, Piece(setting=setting, words=words, env=((name, value),), because=outcome.because))
    if not refers:
        made.unmatched.append(
            Unmatched(
                what=setting.shown,
                because="a key on a command line is read by every process and kept in logs",
                instead=f"put it into a Secret that sets {name}, and make a new key",
                where=setting.where,
            )
        )


def _take(made: Assembled, setting: Setting, found: Converted, version: EngineVersion) -> None:
    if found.instead is not None:
        made.unmatched.append(
            Unmatched(
                what=setting.shown,
                because=found.because or f"{NAMES[version.engine]} has no equivalent",
                instead=found.instead,
                where=setting.where,
            )
        )
        made.pieces.append(Piece(setting=setting))
        return
    # A variable's own value goes on under its new name; a flag's value is written there.
    env = tuple(
        (name, setting.value if value is None and setting.flag else value) for name, value in found.env
    )
    keep = any(reference(made.given, setting.name) in word for word in found.words) if setting.name else False
    _add(made, Piece(setting=setting, words=found.words, env=env, keep=keep, because=found.because))


def _add(made: Assembled, piece: Piece) -> None:
    made.pieces.append(piece)
    setting = piece.setting
    old, where = (setting.shown, setting.where) if setting else (None, made.given.at)
    if piece.words or (setting is not None and setting.flag and not piece.env):
        made.arguments.append(
            Change(
                old=old, new=joined(piece.words) if piece.words else None, because=piece.because, where=where
            )
        )
    for name, value in piece.env:
        secret = (setting is not None and setting.row.secret) or (value is None and setting is not None)
        shown = (
            f"{name}=…"
            if secret and (setting is None or setting.value is None or setting.row.secret)
            else None
        )
        text = shown or f"{name}={value if value is not None else (setting.value if setting else '')}"
        made.environment.append(Change(old=old, new=text, because=piece.because, where=where))
    if not piece.words and not piece.env and setting is not None and not setting.flag:
        made.environment.append(Change(old=old, new=None, because=piece.because, where=where))


def _defaults(made: Assembled, version: EngineVersion) -> None:
    """What TGI did without being told, and the new engine does not."""
    given, engine = made.given, version.engine
    flags = known_flags(engine, version.text)
    if engine == "sglang":
        if given.effective("HOSTNAME") is None:
            because = "by itself it listens on 127.0.0.1, which nobody outside the container reaches"
            _add(made, Piece(setting=None, words=("--host", "0.0.0.0"), because=because))
        _add(
            made, Piece(setting=None, words=("--enable-metrics",), because="off by default; in TGI it was on")
        )
    elif given.effective("GRACEFUL_TERMINATION_TIMEOUT") is None and "--shutdown-timeout" in flags:
        words = ("--shutdown-timeout", str(GRACE_SECONDS))
        _add(
            made,
            Piece(setting=None, words=words, because="TGI's default; vLLM's own cuts running requests off"),
        )
    if given.effective("NUM_SHARD") is None and given.effective("SHARDED") is None:
        if given.gpus is not None and given.gpus > 1:
            words = (_TENSOR[engine], str(given.gpus))
            because = "TGI takes every GPU it sees; so many are asked for"
            _add(made, Piece(setting=None, words=words, because=because))
        elif given.gpus is None or given.kind != "pod":
            made.unmatched.append(
                Unmatched(
                    what="NUM_SHARD, which is not set",
                    because=f"TGI takes every GPU it sees, {NAMES[engine]} takes one",
                    where=given.at,
                    instead=f"add {_TENSOR[engine]} with the number of GPUs where there are several",
                )
            )
    cache = _cache(given)
    if cache is not None and not given.elsewhere:
        because = (
            "where TGI's image keeps the Hub's files; else they would be downloaded again to another place"
        )
        _add(made, Piece(setting=None, env=((cache, "/data"),), because=because))


def _cache(given: Given) -> str | None:
    """The variable that the image of TGI sets to /data; None where something else says where the Hub's files are."""
    told = {"HF_HOME", "HF_HUB_CACHE"} & {name for name, _ in given.env}
    if given.image is None or told or given.effective("HUGGINGFACE_HUB_CACHE") is not None:
        return None
    tag = release(image_version(given.image) or "")
    return "HF_HUB_CACHE" if tag is not None and tag < _HF_HOME_SINCE else "HF_HOME"


def _ports(made: Assembled, version: EngineVersion) -> None:
    given, engine = made.given, get_engine(version.engine)
    setting = given.effective("PORT") or given.effective("AIP_HTTP_PORT")
    if setting is not None:
        value = setting.value or ""
        made.old_port = made.port = (
            int(value) if value.isascii() and value.isdigit() and len(value) < 6 else None
        )
    else:
        made.old_port = LAUNCHER_PORT if given.kind == "line" else IMAGE_PORT
        made.port = engine.port
        because = f"{NAMES[version.engine]}'s own; probes, Services and scrapes that name the old one follow"
        made.serving.append(
            Change(old=f"port {made.old_port}", new=f"port {made.port}", because=because, where=given.at)
        )
    probes = engine.probes(version)
    if probes.ready == probes.live:
        new, because = probes.ready, "readiness and liveness; it needs no key"
    else:
        new, because = f"{probes.ready} (ready), {probes.live} (live)", probes.because
    made.serving.append(Change(old="/health", new=new, because=because, where=given.at))
    made.serving.append(
        Change(old="/metrics", new=engine.metrics_path, because="on the server's own port", where=given.at)
    )


def _clocks(made: Assembled, version: EngineVersion) -> None:
    setting = made.given.effective("GRACEFUL_TERMINATION_TIMEOUT")
    value = setting.value if setting is not None else str(GRACE_SECONDS)
    if value is None or not value.isdigit() or len(value) > 6:
        return
    made.grace_seconds = int(value) + MARGIN_SECONDS
    old = made.given.pod.grace_seconds if made.given.pod is not None else None
    if made.given.kind == "pod":
        shown = f"terminationGracePeriodSeconds {30 if old is None else old}"
        if (old or 30) >= made.grace_seconds:
            return
        new, because = (
            f"terminationGracePeriodSeconds {made.grace_seconds}",
            f"{value} s for running requests",
        )
    elif made.given.kind == "line":
        return
    else:
        shown, new = "stop timeout", f"{made.grace_seconds} s (--stop-timeout, stop_grace_period)"
        because = f"{value} s for running requests; Docker kills after 10 s by itself"
    made.serving.append(
        Change(
            old=shown, new=new, because=f"{because}, and {MARGIN_SECONDS} s around it", where=made.given.at
        )
    )


def _finish(made: Assembled, version: EngineVersion) -> None:
    given, engine = made.given, get_engine(version.engine)
    image = engine.image(version, "cuda").reference
    if given.image is not None:
        image = _image(made, version)
        made.serving.append(
            Change(old=given.image.text, new=image, because=f"the image of {version}", where=given.at)
        )
    words = tuple(word for piece in made.pieces for word in piece.words)
    env = tuple(
        (
            name,
            None if piece.setting and (piece.setting.row.secret or piece.setting.value is None) else value
            if value is not None or piece.setting is None else piece.setting.value,
        )
        for piece in made.pieces for name, value in piece.env
    )  # fmt: skip
    command = engine.command(version)
    made.server = Server(
        where=given.where, image=image, command=command, args=words, env=env,
        line=shell_line(made, image, command, words, env), port=made.port, old_port=made.old_port,
    )  # fmt: skip


def _image(made: Assembled, version: EngineVersion) -> str:
    tag = (made.given.image.tag or "") if made.given.image is not None else ""
    platform: Platform = "rocm" if tag.endswith("-rocm") else "cuda"
    other = next((word for word in ("intel", "gaudi", "neuron", "trtllm", "llamacpp") if word in tag), None)
    if other is not None or (made.given.image and "gaudi" in made.given.image.repository):
        made.unmatched.append(
            Unmatched(
                what=made.given.image.text if made.given.image else "",
                where=made.given.at,
                because=f"it is TGI's image for {other or 'gaudi'}, and only those for NVIDIA and AMD are migrated",
                instead=f"see which image {NAMES[version.engine]} has for that hardware",
            )
        )
    try:
        return get_engine(version.engine).image(version, platform).reference
    except UnsupportedError:
        return get_engine(version.engine).image(version, "cuda").reference
