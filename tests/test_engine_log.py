"""Lines of engines' logs: which count, and how far the start has come."""

from __future__ import annotations

import pytest

from selfhost.deploy.engine_log import important, plain, progress, shortened
from selfhost.deploy.types import Progress
from selfhost.pull.progress import Progress as PullProgress
from selfhost.units import GIB
from tests.simulator import vllm_log

BAR = (
    "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  50%|█████     | 34/67 [00:01<00:01, 30.0it/s]"
)
MARKS = [
    (
        "vllm",
        (
            "(EngineCore pid=104) ERROR 11-26 12:36:59 [core.py:1173] "
            "torch.OutOfMemoryError: CUDA out of memory."
        ),
        "error",
    ),
    (
        "vllm",
        '(EngineCore pid=104) ERROR 11-26 12:36:59 [core.py:1173]   File "core.py", line 1140, in run',
        None,
    ),
    ("vllm", "WARNING 11-26 12:36:59 [envs.py:12] Unknown vLLM environment variable", "warning"),
    ("vllm", "INFO 11-26 12:36:59 [kv_cache_utils.py:2328] GPU KV cache size: 1,505,552 tokens", "memory"),
    ("vllm", "INFO 11-26 12:36:59 [entry.py:140] Starting vLLM server on http://0.0.0.0:8000", "ready"),
    ("vllm", BAR, "progress"),
    ("vllm", "INFO:     Application startup complete.", "ready"),
    ("vllm", "INFO 11-26 12:36:59 [launcher.py:46] Route: /v1/models, Methods: GET", None),
    ("sglang", "[2026-11-26 12:00:00 TP0] The server is fired up and ready to roll!", "ready"),
    (
        "sglang",
        (
            "[2026-11-26 12:00:00 TP0] Load weight end. type=Qwen3ForCausalLM, avail "
            "mem=17.5 GB, mem usage=61.0 GB."
        ),
        "memory",
    ),
    (
        "tgi",
        "2026-11-26T12:00:00.000000Z  INFO text_generation_launcher: Waiting for shard to be ready...",
        "progress",
    ),
    (
        "tgi",
        "2026-11-26T12:00:00.000000Z ERROR text_generation_launcher: Error when initializing model",
        None,
    ),
    ("triton", "I1126 12:00:00.000000 1 http_server.cc:4725] Started HTTPService at 0.0.0.0:8000", "ready"),
    ("llamacpp", "main: server is listening on http://0.0.0.0:8080 - starting the main loop", "ready"),
    ("llamacpp", "load_tensors: offloaded 65/65 layers to GPU", "memory"),
    ("ollama", 'time=2026-11-26T12:00:00Z level=WARN source=server.go:1 msg="slow"', "warning"),
    ("pull", "63.00 GiB of 71.20 GiB pulled · 412 MiB/s · about 3 min left", "progress"),
    ("pull", "Error: Qwen/Qwen3-32B: the Hub did not answer within 10 s.", "error"),
    ("vllm", "", None),
]
STAGES = [
    (
        "vllm",
        ["INFO 11-26 12:00:00 [gpu_model_runner.py:1] Starting to load model x..."],
        "loading",
        "begins",
    ),
    (
        "vllm",
        [("Loading safetensors checkpoint shards:  25% Completed | 1/4 [00:01<00:03,  1.00s/it]")],
        "loading",
        "1 of 4 shards",
    ),
    (
        "vllm",
        [("INFO 11-26 12:00:00 [x.py:1] Model loading took 30.52 GiB memory and 2.0 seconds")],
        "compiling",
        "30.52 GiB",
    ),
    ("vllm", [BAR], "warming", "34 of 67 CUDA graphs"),
    (
        "vllm",
        [BAR, ("INFO 11-26 12:00:00 [entry.py:140] Starting vLLM server on http://0.0.0.0:8000")],
        "ready",
        "listens",
    ),
    (
        "sglang",
        ["[2026-11-26 12:00:00] Capturing batches (bs=8):  50%|██| 4/8 [00:01<00:01]"],
        "warming",
        "4 of 8",
    ),
    (
        "sglang",
        [("[2026-11-26 12:00:00 TP0] max_total_num_tokens=430000, chunked_prefill_size=8192")],
        "warming",
        "430000 tokens",
    ),
    (
        "tgi",
        [
            (
                "2026-11-26T12:00:00.000000Z  INFO text_generation_router: server.rs:1: Setting "
                "max batch total tokens to 80000"
            )
        ],
        "warming",
        "80000",
    ),
    ("triton", ["I1126 12:00:00.000000 1 model_lifecycle.cc:472] loading: qwen:1"], "loading", "qwen"),
    ("triton", ["INFO 11-26 12:00:00 [x.py:1] Available KV cache memory: 38.78 GiB"], "warming", "38.78 GiB"),
    ("llamacpp", ["load_tensors: offloaded 65/65 layers to GPU"], "loading", "65/65"),
    ("ollama", ["pulling 6a0746a1ec1a:  45% ▕██ ▏ 2.1 GB/4.7 GB"], "downloading", "45 %"),
]


@pytest.mark.parametrize(("engine", "line", "mark"), MARKS)
def test_line_that_counts_is_marked(engine: str, line: str, mark: str | None) -> None:
    assert important(line, engine) == mark


@pytest.mark.parametrize(("engine", "lines", "stage", "detail"), STAGES)
def test_newest_line_says_how_far_it_is(engine: str, lines: list[str], stage: str, detail: str) -> None:
    found = progress([*lines, "INFO 11-26 12:00:01 [other.py:1] something else"], engine)
    assert found is not None
    assert found.stage == stage
    assert detail in found.detail


def test_pull_says_what_its_own_progress_writes() -> None:
    now = [0.0]
    told = PullProgress(71 * GIB, None, clock=lambda: now[0])
    told.got(GIB)
    now[0] = 4.0
    told.got(GIB)
    found = progress([told.line()], "pull")
    assert found == Progress(
        stage="downloading",
        done=2 * GIB,
        total=71 * GIB,
        unit="bytes",
        detail="2.00 GiB of 71.00 GiB, 512 MiB/s, about 2 min left",
    )


def test_nothing_said_is_no_progress() -> None:
    assert progress([], "vllm") is None
    assert progress(["hello"], "vllm") is None
    assert progress(["Starting to load model"], "engine of tomorrow") is None


def test_start_of_vllm_only_goes_forward() -> None:
    order = ("starting", "loading", "compiling", "warming", "ready")
    held: list[str] = []
    stages: list[str] = []
    for _, line in vllm_log.whole(vllm_log.Start(model="Qwen/Qwen3-32B")):
        held.append(line)
        found = progress(held, "vllm")
        if found is not None and (not stages or stages[-1] != found.stage):
            stages.append(found.stage)
    assert stages == [stage for stage in order if stage in stages]
    assert stages[-1] == "ready"
    assert len(stages) >= 4


def test_words_are_plain_and_without_keys() -> None:
    assert plain("\x1b[36m(EngineCore pid=1)\x1b[0m INFO 11-26 12:00:00 [a.py:1] hello") == "hello"
    assert plain("12%\r45%\r99% done") == "99% done"
    assert "hf_aaaa" not in shortened("token hf_" + "a" * 20)
    assert len(shortened("x" * 1000)) == 300
