"""What may go wrong with the program in a container: logs and exit codes of engines and downloads that fail.

Texts of the engine after vllm 0.32.0 (v1/core/kv_cache_utils.py, v1/worker/utils.py, v1/engine/core_client.py and
utils.py, config/device.py, model_executor/models/registry.py), of huggingface_hub 2.4.0 (_snapshot_download.py) and
transformers 5.19.0 (utils/hub.py), all as installed. Of torch after its sources (c10/cuda/CUDAFunctions.cpp,
CUDAMiscFunctions.cpp, CUDAException.cpp), of NCCL after src/misc/shmutils.cc; stored copies of some later commit, read
2026-11-26. As users quote it: how torch hands NCCL's errors on (NCCLUtils.cpp, vllm-project/vllm#10523). Not checked:
torch's words of memory that is out, the frames of tracebacks, versions and numbers of lines in them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from tests.simulator import programs, vllm_log
from tests.simulator.box import FOREVER, Behaviour, Box, Exit
from tests.simulator.engine import Served
from tests.simulator.vllm_log import Start, api, core

Run = Generator[float, None, Exit | int | None]
Stage = Callable[[Start], Iterator[tuple[float, str]]]
BEFORE: dict[str, tuple[Stage, ...]] = {
    "nothing": (),
    "loading": (vllm_log.opening,),
    "compiling": (vllm_log.opening, vllm_log.loading),
    "memory": (vllm_log.opening, vllm_log.loading, vllm_log.compiling),
    "graphs": (vllm_log.opening, vllm_log.loading, vllm_log.compiling, vllm_log.memory),
}
_CORE_FAILED = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)


def crash(
    text: str, *, code: int = 1, after: str = "nothing", seconds: float = 1.0, reason: str = "", only: int = 0,
    name: str = "crash",
) -> Behaviour:  # fmt: skip
    """A program that writes what an engine writes until some stage, then this, and ends.

    Args:
        text: lines of the end.
        code: with which it ends.
        after: a key of `BEFORE`.
        seconds: until the end.
        reason: of the container's end, where it is not the code's.
        only: for so many starts; later ones go well.
        name: for people.
    """

    def program(box: Box) -> Run:
        start = programs.start_of(box)
        for stage in BEFORE[after]:
            for wait, line in stage(start):
                yield wait
                box.say(line)
        yield seconds
        if text:
            box.say(text.replace("{model}", start.model))
        return Exit(code=code, reason=reason)

    return Behaviour(name=name, program=program, only=only)


def _engine(name: str, after: str, error: str, *, frames: str = "") -> Behaviour:
    """An error in the engine's core, and what the server then says of it."""
    lines = [
        core("core.py", 1431, "EngineCore failed to start.", "ERROR"),
        core("core.py", 1431, "Traceback (most recent call last):", "ERROR"),
        *(core("core.py", 1431, line, "ERROR") for line in frames.split("\n") if line),
        *(core("core.py", 1431, line, "ERROR") for line in error.split("\n")),
        "(APIServer pid=1) Traceback (most recent call last):",
        '(APIServer pid=1)   File "/usr/local/bin/vllm", line 10, in <module>',
        "(APIServer pid=1)     sys.exit(main())",
        f"(APIServer pid=1) {_CORE_FAILED}",
    ]
    return crash("\n".join(lines), after=after, name=name)


def driver_too_old(version: int = 12040) -> Behaviour:
    """torch finds a driver that is older than its CUDA."""
    said = "RuntimeError: The NVIDIA driver on your system is too old (found version "
    said += f"{version}). Please update your GPU driver by downloading and installing a new version from the URL: "
    said += "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to install a PyTorch "
    said += "version that has been compiled with your version of the CUDA driver."
    return _engine("driver too old", "nothing", said)


def cuda_out_of_memory(gib: float = 3.91, total: float = 79.19, free: float = 1.12) -> Behaviour:
    """The weights do not fit."""
    said = f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {gib:.2f} GiB. GPU 0 has a total capacity "
    said += (
        f"of {total:.2f} GiB of which {free:.2f} GiB is free. Including non-PyTorch memory, this process has "
    )
    said += f"{total - free:.2f} GiB memory in use. Of the allocated memory {total - free - 1.4:.2f} GiB is allocated "
    said += "by PyTorch, and 312.40 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is "
    said += "large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
    return _engine("CUDA out of memory", "loading", said)


def no_memory_for_cache() -> Behaviour:
    """Nothing is left for the KV cache."""
    said = (
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
    )
    said += "initializing the engine (this flag also controls CPU memory reservation on the CPU backend, despite its "
    said += "name). See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."
    return _engine("no memory for the cache", "memory", said)


def cache_too_small(
    need: float = 12.0, have: float = 7.31, max_model_len: int = 98304, estimated: int = 59872
) -> Behaviour:
    """One request of the longest length does not fit."""
    said = f"ValueError: To serve at least one request with the model's max seq len ({max_model_len}), ({need} GiB KV "
    said += f"cache is needed, which is larger than the available KV cache memory ({have} GiB). Based on the available "
    said += (
        f"memory, the estimated maximum model length is {estimated}. Try increasing `gpu_memory_utilization` "
    )
    said += "(which also controls CPU memory on the CPU backend) or decreasing `max_model_len` when initializing the "
    said += "engine. See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."
    return _engine("cache too small", "memory", said)


def gpu_in_use(free: float = 21.4, total: float = 79.19, want: float = 72.85) -> Behaviour:
    """Another process holds memory of the GPU."""
    said = f"ValueError: Free memory on device cuda:0 ({free}/{total} GiB) on startup is less than desired GPU memory "
    said += (
        f"utilization (0.92, {want} GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
    )
    said += "processes."
    return _engine("GPU in use", "nothing", said)


def unknown_flag(flag: str = "--no-such-flag") -> Behaviour:
    """argparse refuses a flag."""
    said = "usage: vllm serve [model_tag] [options]\nvllm serve: error: unrecognized arguments: "
    return crash(said + flag, code=2, name="unknown flag")


def unsupported_architecture(architecture: str = "Qwen9ForCausalLM") -> Behaviour:
    """The engine has no class for the model."""
    said = "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, Model "
    said += f"architectures ['{architecture}'] are not supported for now. Supported architectures: "
    said += "dict_keys(['AfmoeForCausalLM', 'ApertusForCausalLM', 'Qwen3ForCausalLM'])"
    return crash(_traceback(said), name="unsupported architecture")


def start_limit(seconds: int = 600) -> Behaviour:
    """The engine's own limit of its start."""
    said = "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight "
    said += f"loading for large models. Waited {seconds}s (configured by VLLM_ENGINE_READY_TIMEOUT_S). To increase the "
    said += "timeout, set the environment variable: VLLM_ENGINE_READY_TIMEOUT_S=<seconds>"
    return crash(_traceback(said), after="loading", seconds=float(seconds), name="start limit")


def weights_missing() -> Behaviour:
    """The Hub library is offline and finds no files."""
    said = "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the "
    said += "specified revision on the local disk and outgoing traffic has been disabled. To enable repo look-ups and "
    said += "downloads online, pass 'local_files_only=False' as input."
    more = "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
    more += "cached files.\nCheck your internet connection or see how to run the library in offline mode at "
    more += "'https://huggingface.co/docs/transformers/installation#offline-mode'."
    return crash(_traceback(f"{said}\n{more}"), name="weights missing")


def _traceback(error: str) -> str:
    """An error of the process that takes requests."""
    lines = [
        "Traceback (most recent call last):",
        '  File "/usr/local/bin/vllm", line 10, in <module>',
        *error.split("\n"),
    ]
    return "\n".join(f"(APIServer pid=1) {line}" for line in lines)


def nccl_failed() -> Behaviour:
    """The GPUs do not find each other."""
    said = "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, "
    said += "unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5\nncclSystemError: "
    said += (
        "System call (e.g. socket, malloc) or external library call failed or device error. \nLast error:\n"
    )
    said += "Error while creating shared memory segment /dev/shm/nccl-mC1Ax4 (size 33030528), error: No space left on "
    said += "device (28)"
    return _engine("NCCL failed", "nothing", said)


def port_in_use(port: int = 8000) -> Behaviour:
    """Another process listens on the port."""
    said = f"(APIServer pid=1) OSError: [Errno 98] Address already in use: ('', {port})"
    return crash("(APIServer pid=1) Traceback (most recent call last):\n" + said, name="port in use")


def gpu_fell_off() -> Behaviour:
    """The driver lost the GPU."""
    said = "torch.AcceleratorError: CUDA error: unspecified launch failure\nSearch for `cudaErrorLaunchFailure' in "
    said += (
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information.\nCUDA "
    )
    said += "kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    said += "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    return _engine("GPU fell off", "compiling", said)


def no_gpu_seen() -> Behaviour:
    """The container sees no GPU."""
    said = "(APIServer pid=1) RuntimeError: Failed to infer device type, please set the environment variable "
    said += "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue."
    return crash(said, name="no GPU seen")


def cannot_write(path: str = "/home/selfhost/.cache") -> Behaviour:
    """The user may not write where the engine wants to."""
    said = f"(APIServer pid=1) PermissionError: [Errno 13] Permission denied: '{path}'"
    return crash("(APIServer pid=1) Traceback (most recent call last):\n" + said, name="cannot write")


def out_of_memory(after: str = "loading") -> Behaviour:
    """The kernel ends it at its memory limit."""
    return crash("", code=137, reason="OOMKilled", after=after, seconds=5.0, name="OOMKilled")


def crash_loop(text: str = "Segmentation fault (core dumped)", code: int = 139) -> Behaviour:
    """It ends with a signal again and again."""
    return crash(text, code=code, name="crash loop")


def never_listens() -> Behaviour:
    """The engine hangs while it loads: the start-up probe ends it."""

    def program(box: Box) -> Run:
        start = programs.start_of(box)
        for wait, line in vllm_log.opening(start):
            yield wait
            box.say(line)
        yield FOREVER
        return None

    return Behaviour(name="never listens", program=program)


def goes_deaf(after_seconds: float = 60.0, status: int = 0) -> Behaviour:
    """It is ready, then /health hangs (0) or answers another status: the liveness probe ends it."""

    def program(box: Box) -> Run:
        start = programs.start_of(box)
        for wait, line in vllm_log.whole(start):
            yield wait
            box.say(line)
        box.engine = Served.of(box, start)
        box.listening = True
        yield after_seconds
        box.healthy = status
        box.engine.script.health = status or 503
        box.say(api("launcher.py", 88, "AsyncLLM output_handler failed.", "ERROR"))
        yield FOREVER
        return None

    return Behaviour(name="goes deaf", program=program)


def evicted(resource: str = "ephemeral-storage", after_seconds: float = 20.0) -> Behaviour:
    """The node is short of something (eviction/helpers.go)."""
    said = (
        f"The node was low on resource: {resource}. Threshold quantity: 48318382080, available: 41943040Ki. "
    )
    said += f"Container server was using 61Gi, request is 16Gi, has larger consumption of {resource}. "
    return _evicted(said, after_seconds)


def scratch_full(volume: str = "home", limit: str = "10Gi", after_seconds: float = 20.0) -> Behaviour:
    """An emptyDir is larger than its limit (eviction/helpers.go)."""
    return _evicted(f'Usage of EmptyDir volume "{volume}" exceeds the limit "{limit}". ', after_seconds)


def _evicted(message: str, after_seconds: float) -> Behaviour:
    def program(box: Box) -> Run:
        start = programs.start_of(box)
        for wait, line in vllm_log.opening(start):
            yield wait
            box.say(line)
        yield after_seconds
        return Exit(code=137, evicted=message)

    return Behaviour(name="evicted", program=program)


def healthy(**changes: object) -> Behaviour:
    """An engine that starts, with other facts than usual: fields of tests.simulator.vllm_log.Start."""

    def program(box: Box) -> Run:
        return (yield from programs.serving(box, **changes))

    return Behaviour(name="healthy", program=program)


def another_engine(change: Callable[[Served], None]) -> Behaviour:
    """An engine that starts well, whose answers a test changes: `change` gets what it serves with."""

    def program(box: Box) -> Run:
        start = programs.start_of(box)
        for wait, line in vllm_log.whole(start):
            yield wait
            box.say(line)
        box.engine = Served.of(box, start)
        change(box.engine)
        box.listening = True
        yield FOREVER
        return None

    return Behaviour(name="another engine", program=program)


def download_of(total_bytes: int, *, bytes_a_second: int = programs.DOWNLOAD_BYTES_A_SECOND) -> Behaviour:
    """A download of another size or speed."""

    def program(box: Box) -> Run:
        return (yield from programs.downloading(box, total_bytes=total_bytes, speed=bytes_a_second))

    return Behaviour(name="download", program=program)


def download_refused(status: int = 403, code: str = "GatedRepo", *, has_token: bool = False) -> Behaviour:
    """The Hub refuses: by default because the model's owner has to grant access first."""
    from selfhost.hub.remote import refusal

    def program(box: Box) -> Run:
        yield 3.0
        repo = next(
            (word for word in box.words if word.count("/") == 1 and not word.startswith("/")), "model"
        )
        error = refusal(status, {"X-Error-Code": code}, what=repo.partition("@")[0], has_token=has_token)
        box.say(f"Error: {error.message}")
        if error.hint:
            box.say(f"Hint: {error.hint[:1].upper()}{error.hint[1:]}")
        return error.exit_code

    return Behaviour(name="download refused", program=program)


def download_gated() -> Behaviour:
    """Access has to be granted by the model's owner."""
    return download_refused()


def download_not_found() -> Behaviour:
    """No such repository."""
    return download_refused(404, "RepoNotFound")


def download_unauthorized() -> Behaviour:
    """401 without a token: private, or not there."""
    return download_refused(401, "RepoNotFound")


def download_no_space(free: str = "3.20 GiB", missing: str = "61.02 GiB") -> Behaviour:
    """The volume is too small (selfhost.pull.run.check_space)."""
    return _download(f"/weights/hub has {free} free, and {missing} are still to come.",
                     "Make room, or choose another --dir.")  # fmt: skip


def download_no_network(endpoint: str = "https://huggingface.co") -> Behaviour:
    """The Hub cannot be reached (selfhost.hub.remote)."""
    from selfhost.hub.remote import translate

    class NetworkError(Exception):
        pass

    def program(box: Box) -> Run:
        yield 12.0
        error = translate(NetworkError("refused"), what="Qwen/Qwen3-32B", endpoint=endpoint)
        assert error is not None
        box.say(f"Error: {error.message}")
        box.say(f"Hint: {error.hint}")
        return error.exit_code

    return Behaviour(name="download: no network", program=program)


def download_killed() -> Behaviour:
    """The kernel ends the download at its memory limit."""
    return crash("", code=137, reason="OOMKilled", seconds=20.0, name="download OOMKilled")


def _download(message: str, hint: str, *, code: int = 1) -> Behaviour:
    lines = [f"Error: {message}", *([f"Hint: {hint}"] if hint else [])]
    return crash("\n".join(lines), code=code, seconds=4.0, name="download failed")
