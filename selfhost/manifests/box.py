"""A plan on one machine: what the targets compose and systemd share, and what they refuse and name a way out of."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.given import given, refuse_groups
from selfhost.place import NODE_GPUS
from selfhost.plan import Plan

# Asks once; the first of the programs that an image or a machine has. $1 is the address, $2 the seconds it may take.
# The last speaks HTTP by bash's /dev/tcp, where an image has neither Python nor curl.
ASK = r"""if command -v python3 >/dev/null 2>&1; then
  exec python3 -c '
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    opener.open(sys.argv[1], timeout=float(sys.argv[2])).read(1)
except Exception as error:
    sys.exit(str(error))
' "$1" "$2"
elif command -v curl >/dev/null 2>&1; then
  exec curl -sS -f -o /dev/null --noproxy '*' --max-time "$2" "$1"
fi
exec bash -c '
address=${1#http://}; host=${address%%/*}
exec 3<>"/dev/tcp/${host%:*}/${host##*:}"
printf "GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n" "${address#*/}" "$host" >&3
read -r -t "$2" _ status _ <&3
[ "$status" = 200 ]
' ask "$1" "$2"
"""
_MEANT = frozenset(("--image", "--pull-image", "--hub-endpoint"))
_WAYS_TO_ASK = frozenset(("--http-proxy", "--https-proxy", "--no-proxy"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A name, its value and its reason."""

    name: str
    value: str
    because: str


def refuse_cluster(
    target: str, plan: Plan, options: RenderOptions, *, meant: frozenset[str] = frozenset()
) -> None:
    """Refuse what one machine cannot be, and options that only a cluster has a place for.

    Args:
        target: its name.
        plan: the decision.
        options: what was asked for.
        meant: flags that the target has a place for beside those of every box.

    Raises:
        UnsupportedError: several replicas or several machines.
        UsageError: an option without effect.
    """
    if plan.gpu.count > NODE_GPUS:
        raise UnsupportedError(
            f"The plan needs {plan.gpu.count} GPUs, and one machine has at most {NODE_GPUS}.",
            hint="Where one machine is outgrown the distributed engine is Kubernetes: --target lws, kserve or llm-d.",
        )
    if plan.replicas > 1:
        raise UnsupportedError(
            f"The plan has {plan.replicas} replicas, and {target} starts one on one machine.",
            hint="Render it with --target kubernetes, or plan for one replica.",
        )
    refuse_groups(target, (options.nodes, options.gpus, options.scaling, options.proxy, options.kserve))
    known = _MEANT | _WAYS_TO_ASK | meant | {"--api-key-secret"}
    groups = (options, options.access, options.network, options.weights, options.box)
    for flag in (flag for group in groups for flag in given(group)):
        if flag not in known:
            raise UsageError(f"{flag} has no effect with --target {target}.", hint="Leave it out.")


def check_gpus(plan: Plan, options: RenderOptions) -> None:
    """Refuse GPUs that were named otherwise than the plan counts them.

    Raises:
        UsageError: another number, a CPU, or a MIG instance without its name.
    """
    named = options.box.gpu_devices
    if named and plan.gpu.on == "cpu":
        raise UsageError("The plan runs on a CPU: there is no GPU to name.", hint="Leave --gpu-device out.")
    if named and len(named) != plan.gpu.count:
        raise UsageError(
            f"--gpu-device names {len(named)} GPUs, and the plan needs {plan.gpu.count}.",
            hint=f"Name {plan.gpu.count}, or leave it out.",
        )
    if not named and "/mig-" in plan.gpu.resource:
        raise UsageError(
            "A MIG instance has to be named: a count would take a whole GPU.",
            hint="Add --gpu-device with the UUID of the instance (`nvidia-smi -L`).",
        )
    if options.box.cdi and plan.gpu.on != "cuda":
        raise UsageError(
            f"--cdi is for NVIDIA's GPUs, and the plan is for {plan.gpu.name}.", hint="Leave it out."
        )


def stop_seconds(plan: Plan) -> tuple[int, str]:
    """How long the server may take to end. Nobody has to forget it first: there is no list of endpoints."""
    clocks = plan.clocks
    seconds = clocks.grace_seconds.value - clocks.pre_stop_seconds.value
    return seconds, f"{clocks.drain_seconds.value} s to finish running requests, and time to free the GPUs"


def caution(plan: Plan, options: RenderOptions) -> tuple[str, ...]:
    """What has to be said of who may call."""
    if options.box.local or options.access.api_key_secret is not None:
        return ()
    line = f"OPEN: whoever reaches {options.box.bind} may send requests"
    return (f"{line}; --api-key-secret asks for a key" if plan.engine.key else line,)


__all__ = ["ASK", "Setting", "caution", "check_gpus", "refuse_cluster", "stop_seconds"]
