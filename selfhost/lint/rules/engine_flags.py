"""Options of the engine's command line: known to its release, spelt right, with values it takes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from selfhost.catalog.flags import KnownFlag, Release, known_flags, release, table
from selfhost.lint.edits import replace_value
from selfhost.lint.images import own
from selfhost.lint.metric_names import shown
from selfhost.lint.model import Container, Engine, Flag, Lot
from selfhost.lint.types import Edit, Found, Rule

_READ = "vLLM 0.5.5-0.33.0, SGLang 0.4.0-0.5.23, TGI 2.0.4-3.3.7, llama.cpp, Triton: parsers read 2026-11-26"
TITLES = {"vllm": "vLLM", "sglang": "SGLang", "tgi": "TGI", "llamacpp": "llama.cpp", "triton": "Triton"}
# Builds that add options of their own.
_FORKS = re.compile(r"omni|tpu|neuron|gaudi|ascend|npu|hpu|trtllm|ktransformers|dynamo|llm-d|lmcache|nightly")
# What replaced an option: the releases' own deprecation messages.
_RENAMED = {
    (
        "vllm",
        "--disable-log-requests",
    ): "nothing: requests are not logged unless --enable-log-requests says so",
    ("vllm", "--guided-decoding-backend"): "--structured-outputs-config.backend",
    ("vllm", "--enable-reasoning"): "--reasoning-parser alone",
    ("vllm", "--num-scheduler-steps"): "nothing: the V1 engine has no multi-step scheduling",
    ("vllm", "--swap-space"): "nothing: the V1 engine recomputes instead of swapping",
    ("vllm", "--use-v2-block-manager"): "nothing: it is the only one",
    ("vllm", "--device"): "nothing: the image decides",
    ("vllm", "--task"): "--runner and --convert",
    ("vllm", "--speculative-model"): "--speculative-config",
    ("vllm", "--num-speculative-tokens"): "--speculative-config",
    ("vllm", "--max-seq-len-to-capture"): "--compilation-config.max_cudagraph_capture_size",
    ("vllm", "--rope-scaling"): "--hf-overrides",
    ("vllm", "--rope-theta"): "--hf-overrides",
    ("vllm", "--engine-use-ray"): "--distributed-executor-backend=ray",
    ("vllm", "--worker-use-ray"): "--distributed-executor-backend=ray",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """An option as written, with what is known of it."""

    container: Container
    engine: Engine
    flag: Flag
    name: str
    known: KnownFlag | None


def _written(lot: Lot) -> Iterator[_Written]:
    for _, container, engine in lot.engines():
        if engine.name not in TITLES or not table(engine.name).flags:
            continue
        spellings = table(engine.name).spellings
        there = known_flags(
            engine.name, engine.version
        )  # an option may have been renamed, and kept its spellings
        for flag in engine.flags:
            name = _name(engine.name, flag.written)
            if name is not None:
                known = there.get(name) or spellings.get(name)
                yield _Written(container=container, engine=engine, flag=flag, name=name, known=known)


def _name(engine: str, written: str) -> str | None:
    """The option's name as its parser sees it, None for what is no plain long or known short option."""
    if re.search(r"[$<{(\s]", written) or not re.match(r"--?[A-Za-z]", written):
        return None
    if engine == "vllm":  # FlexibleArgumentParser: underscores become dashes, `--x.y` sets a key of --x
        head = written.partition(".")[0]
        return head.replace("_", "-") if head.startswith("--") else head
    return written


def _release(engine: Engine) -> Release | None:
    return release(engine.version) if engine.version is not None else None


def _unknown(lot: Lot) -> Iterator[Found]:
    for each in _written(lot):
        if each.known is not None or not each.name.startswith("--") or len(each.name) < 5:
            continue
        wanted = _release(each.engine)
        newest = table(each.engine.name).releases[-1]
        if wanted is not None and wanted > newest:
            continue  # newer than what was read
        spellings = table(each.engine.name).spellings
        if each.engine.name in ("vllm", "sglang") and _abbreviates(each.name, spellings):
            continue
        close = closest(each.name, spellings, wanted)
        fork = each.container.image is not None and _FORKS.search(each.container.image.text)
        if fork and close is None:
            continue
        yield Found(
            where=each.flag.where,
            message=f"no release of {TITLES[each.engine.name]} has the option {each.flag.written}",
            fix=f"write {close}" if close else "take it out, or spell it as the engine's --help does",
            edits=_renamed_edit(each.flag, close),
            severity=None if close or own(each.container.image) else "warning",  # a build may add its own
        )


def _abbreviates(name: str, spellings: Mapping[str, KnownFlag]) -> bool:
    """argparse takes a beginning that only one option has."""
    return len({flag.name for text, flag in spellings.items() if text.startswith(name)}) == 1


def closest(name: str, spellings: Mapping[str, KnownFlag], wanted: Release | None) -> str | None:
    """The option that was probably meant, of those the release has; None where none resembles it."""
    alive = [
        text
        for text, flag in spellings.items()
        if text.startswith("--")
        and (flag.span.until is None if wanted is None else flag.span.has(wanted) is not False)
    ]
    dashed = name.replace("_", "-")
    if dashed in alive:
        return dashed
    found = difflib.get_close_matches(dashed, alive, n=1, cutoff=0.8)
    return found[0] if found else None


def _renamed_edit(flag: Flag, name: str | None) -> tuple[Edit, ...]:
    """Safe only where the words differ in underscores alone."""
    if name is None or flag.span is None or flag.written.replace("_", "-") != name:
        return ()
    if flag.value is not None and flag.value_span is None:
        return replace_value(flag.span, f"{name}={flag.value}")
    return replace_value(flag.span, name)


def _other_release(lot: Lot) -> Iterator[Found]:
    for each in _written(lot):
        wanted = _release(each.engine)
        if each.known is None or _lives_on(each):
            continue
        title, span = TITLES[each.engine.name], each.known.span
        if wanted is None:
            continue
        if span.has(wanted) is not False:
            continue
        if wanted < span.since:
            yield Found(
                where=each.flag.where,
                message=f"{title} {each.engine.version} does not have {each.flag.written}; {shown(span.since)} has it",
                fix=f"take {title} {shown(span.since)} or newer, or take the option out",
            )
        elif span.after is not None:
            yield Found(
                where=each.flag.where,
                message=f"{title} {each.engine.version} no longer has {each.flag.written}, gone by {shown(span.after)}",
                fix=_instead(each) or "take the option out",
            )


def _instead(each: _Written) -> str | None:
    """What to write in place of an option that is gone."""
    other = _RENAMED.get((each.engine.name, each.known.name)) if each.known is not None else None
    if other is None:
        return None
    nothing, is_nothing, why = other.partition("nothing: ")
    return f"take it out: {why}" if is_nothing and not nothing else f"write {other} instead"


def _lives_on(each: _Written) -> bool:
    """A negated form of an option whose kind changed, or a short form, about which less is known."""
    known = each.known
    return known is not None and (
        (each.name.startswith("--no-") and each.name != known.name) or not each.name.startswith("--")
    )


def _unpinned_gone(lot: Lot) -> Iterator[Found]:
    """Options that the newest release no longer has, where the release is not known."""
    for each in _written(lot):
        if each.known is None or _release(each.engine) is not None or _lives_on(each):
            continue
        span = each.known.span
        tag = each.container.image.tag if each.container.image is not None else None
        digest = each.container.image.digest if each.container.image is not None else None
        if span.after is None or tag not in ("latest", "nightly", None) or digest is not None:
            continue
        yield Found(
            where=each.flag.where,
            message=f"{TITLES[each.engine.name]} no longer has {each.flag.written} (gone by {shown(span.after)}), "
            "and the image is not pinned to a release that had it",
            fix=_instead(each) or "take the option out, or pin a release that has it",
        )


def _values(lot: Lot) -> Iterator[Found]:
    for each in _written(lot):
        value, known = each.flag.value, each.known
        if (
            known is None
            or not value
            or not known.values
            or known.shape == "list"
            or re.search(r"[$<{(]", value)
        ):
            continue
        wanted = _release(each.engine) or table(each.engine.name).releases[-1]
        if wanted > table(each.engine.name).releases[-1]:
            continue
        taken = sorted(text for text, span in known.values.items() if span.has(wanted) is not False)
        if not taken or value in taken:
            continue
        span = known.values.get(value)
        if each.engine.version is None and span is not None:
            continue
        close = difflib.get_close_matches(value, taken, n=1, cutoff=0.6)
        at = f"{TITLES[each.engine.name]} {each.engine.version or shown(wanted)}"
        listed = ", ".join(taken[:12]) + (", …" if len(taken) > 12 else "")
        yield Found(
            where=each.flag.where,
            message=f"{at} takes no {value[:60]} for {each.flag.written}",
            fix=f"write {close[0]}; it takes {listed}" if close else f"take one of {listed}",
        )


def _switches(lot: Lot) -> Iterator[Found]:
    """`--enforce-eager=true`, `--enforce-eager true`: argparse refuses both."""
    for each in _written(lot):
        if each.engine.name not in ("vllm", "sglang") or each.known is None or each.flag.value is None:
            continue
        if each.known.shape not in ("switch", "boolean") or each.known.span.until is not None:
            continue
        wanted = _release(each.engine)
        if each.known.shaped is not None and (wanted is None or wanted < each.known.shaped):
            continue  # it took a value before
        if each.flag.value.lower() not in ("true", "false", "1", "0", "yes", "no"):
            continue
        yield Found(
            where=each.flag.where,
            message=f"{each.flag.written} is a switch: {TITLES[each.engine.name]} refuses the value {each.flag.value}",
            fix=_switch_fix(each),
        )


def _switch_fix(each: _Written) -> str:
    if each.flag.value is not None and each.flag.value.lower() in ("true", "1", "yes"):
        return f"write {each.flag.written} alone"
    boolean = each.known is not None and each.known.shape == "boolean"
    return f"write --no-{each.name[2:]}" if boolean else f"take {each.flag.written} out"


RULES = (
    Rule(
        code="SH100",
        title="An option that no release has",
        severity="error",
        reason="The engine refuses an option it does not know and exits at once.",
        fix="Spell the option as the engine does.",
        sources=(_READ,),
        compose=True,
        check=_unknown,
        fixable=True,
    ),
    Rule(
        code="SH101",
        title="An option that the pinned release does not have",
        severity="error",
        reason="Options come and go with releases; one that the pinned release does not know stops it at once.",
        fix="Take the option out, or take a release that has it.",
        sources=(_READ,),
        compose=True,
        check=_other_release,
    ),
    Rule(
        code="SH102",
        title="An option that is gone, with an image that moves",
        severity="warning",
        reason="The tag follows the newest release, which no longer has the option and will refuse to start.",
        fix="Take the option out, or pin the image to a release that has it.",
        sources=(_READ,),
        compose=True,
        check=_unpinned_gone,
    ),
    Rule(
        code="SH103",
        title="A value that the option does not take",
        severity="error",
        reason="The parser knows the words it takes and refuses every other.",
        fix="Take one of the values that the release knows.",
        sources=(_READ,),
        compose=True,
        check=_values,
    ),
    Rule(
        code="SH104",
        title="A value after a switch",
        severity="error",
        reason="A switch takes no value: argparse refuses `--switch=true` and takes a word after it for an argument.",
        fix="Write the switch alone, or its --no- form.",
        sources=(
            _READ,
            "https://docs.python.org/3/library/argparse.html, store_true and BooleanOptionalAction",
        ),
        compose=True,
        check=_switches,
    ),
)
