"""Cases of the engine, its memory and its files."""

from __future__ import annotations

from selfhost.deploy.types import LogRef, Snapshot
from tests.causes import (
    LOADED,
    NAME,
    TORCH,
    box,
    download,
    failed,
    fetched,
    job,
    pod,
    said,
    snap,
)

CASES: dict[str, tuple[Snapshot, str | None, str]] = {
    # GPU memory
    "at load": (
        failed(
            (
                "(EngineCore pid=104) INFO 11-26 12:00:00 [gpu_model_runner.py:1] Starting to "
                "load model Qwen/Qwen3-32B...\n"
            )
            + said(TORCH.format(asks="0.50", free="0.10"))
        ),
        "gpu-memory",
        "while it loaded the weights on gpu-1: 0.40 GiB short",
    ),
    "in the forward pass": (
        failed(LOADED + said(TORCH.format(asks="0.90", free="0.20"))),
        "gpu-memory",
        "max-num-batched-tokens=4096",
    ),
    "sampler": (
        failed(
            LOADED
            + "INFO 11-26 12:00:40 [x.py:1] GPU KV cache size: 111,111 tokens\n"
            + said(TORCH.format(asks="1.90", free="0.50"))
            + (
                "\nRuntimeError: CUDA out of memory occurred when warming up sampler with 1024 "
                "dummy requests. Please try lowering `max_num_seqs` or "
                "`gpu_memory_utilization` when initializing the engine."
            )
        ),
        "gpu-memory",
        "selfhost deploy PLAN --set max-num-seqs=256",
    ),
    "graphs": (
        failed(
            LOADED
            + "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  10%|█| 7/67 [00:01<00:10]\n"
            + said(TORCH.format(asks="1.00", free="0.50"))
        ),
        "gpu-memory",
        "gpu-memory-utilization=0.9",
    ),
    "llama.cpp": (
        failed(
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 40000.00 MiB on device "
            "0: cudaMalloc failed: out of memory\nllama_model_load: error loading model: "
            "unable to allocate CUDA0 buffer"
        ),
        "gpu-memory",
        "Out of GPU memory",
    ),
    "somebody else": (
        failed(
            said(
                "ValueError: Free memory on device cuda:0 (35.20/79.19 GiB) on startup is "
                "less than desired GPU memory utilization (0.92, 72.85 GiB). Decrease "
                "GPU memory utilization or reduce GPU memory used by other processes."
            )
        ),
        "gpu-shared",
        "44.0 of 79.2 GiB",
    ),
    "another process": (
        failed(
            said(
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU "
                "0 has a total capacity of 79.19 GiB of which 1.00 GiB is free. Process "
                "77 has 20.00 GiB memory in use. Including non-PyTorch memory, this "
                "process has 58.10 GiB memory in use."
            )
        ),
        "gpu-shared",
        "holds 20.00 GiB",
    ),
    "no blocks": (
        failed(
            LOADED
            + "INFO 11-26 12:00:45 [gpu_worker.py:760] Available KV cache memory: -1.40 GiB\n"
            + said(
                "ValueError: No available memory for the cache blocks. Try increasing "
                "`gpu_memory_utilization` when initializing the engine"
            )
        ),
        "no-kv-cache",
        "1.40 GiB short",
    ),
    "one request": (
        failed(
            LOADED
            + said(
                "ValueError: To serve at least one request with the model's max seq len "
                "(40960), (10.00 GiB KV cache is needed, which is larger than the "
                "available KV cache memory (4.20 GiB). Based on the available "
                "memory, the estimated maximum model length is 17200. Try increasing"
            )
        ),
        "kv-cache-too-small",
        "--set max-model-len=16384",
    ),
    # weights
    "gated": (
        fetched(
            "Error: meta-llama/Llama-3.3-70B-Instruct: access has to be granted by its owner.\nHint: accept its terms"
        ),
        "gated-model",
        "create secret generic hf-token",
    ),
    "gated, in the engine": (
        failed(
            "huggingface_hub.errors.GatedRepoError: 403 Client Error. Cannot access gated "
            "repo for url https://huggingface.co/x"
        ),
        "gated-model",
        "no access",
    ),
    "no such revision": (
        fetched("Error: Qwen/Qwen3-32B has no revision 9216db."),
        "revision-missing",
        "9216db5781bf",
    ),
    "not accepted": (
        fetched("Error: The licence llama3.3 permits commercial use under conditions: show the name."),
        "licence-refused",
        "--accept-licence",
    ),
    "volume full": (
        fetched("Error: /weights has 1.20 GiB free, and 60.10 GiB are still to come.\nHint: make room"),
        "download-disk-full",
        f"{NAME}-weights",
    ),
    "cannot write": (
        fetched("OSError: [Errno 28] No space left on device: '/weights/hub/x'"),
        "download-disk-full",
        "disk is full",
    ),
    "too many requests": (
        fetched("Error: model.safetensors: the Hub answered 429, too many requests."),
        "download-rate-limited",
        "429",
    ),
    "no way out": (
        fetched("Error: Qwen/Qwen3-32B: the Hub did not answer within 10 s.", reason="BackoffLimitExceeded"),
        "download-network",
        "gets no answer",
    ),
    "no name": (
        fetched("httpx.ConnectError: [Errno -3] Temporary failure in name resolution"),
        "download-network",
        "cannot resolve",
    ),
    "too slow": (
        snap(
            download(box("download", ended=137)),
            log="60.0 GiB of 61.0 GiB pulled · 1.00 MiB/s · about 17 min left",
            jobs=(job("DeadlineExceeded"),),
        ),
        "download-deadline",
        "8,080 s; it had come to 60.00 GiB",
    ),
    "download of unknown end": (
        fetched("Error: something that nobody knows.", reason="BackoffLimitExceeded"),
        "download-failed",
        "failed for good",
    ),
    "download that another try did": (
        snap(download(box("download", ended=1)), jobs=(job(succeeded=1),)),
        None,
        "",
    ),
    "nothing on the volume": (
        failed(
            "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate "
            "cached snapshot folder for the specified revision on the local disk and "
            "outgoing traffic has been disabled."
        ),
        "weights-missing",
        "9216db5781bf are not on the volume",
    ),
    "waited in vain": (
        snap(
            pod(box(), inits=(box("weights", ended=1, restarts=0),)),
            log="/weights/.selfhost/x did not appear within 8080 s: the weights are not on the volume",
        ),
        "weights-missing",
        "/weights",
    ),
    "waited for a download that failed": (
        snap(
            pod(box(), inits=(box("weights", ended=1),)),
            download(box("download", ended=1)),
            logs={
                LogRef(
                    pod=f"{NAME}-download-1-x", container="download"
                ): "Error: x: access has to be granted by its owner."
            },
            jobs=(job("BackoffLimitExceeded"),),
        ),
        "gated-model",
        "token",
    ),
    "cut off": (
        failed(
            said(
                "safetensors_rust.SafetensorError: Error while deserializing header: "
                "incomplete metadata, file not fully covered"
            )
        ),
        "weights-damaged",
        "incomplete metadata",
    ),
    "no tokenizer": (
        failed("OSError: Can't load tokenizer for 'Qwen/Qwen3-32B'. If you were trying to load it from"),
        "files-missing",
        "tokenizer",
    ),
    "no config": (
        failed(
            "OSError: /weights/x does not appear to have a file named config.json. Checkout "
            "'https://huggingface.co/x' for available files."
        ),
        "files-missing",
        "config.json",
    ),
    # engine
    "flag of tomorrow": (
        failed("vllm: error: unrecognized arguments: --new-thing 3"),
        "unknown-option",
        "--new-thing 3",
    ),
    "flag of clap": (failed("error: unexpected argument '--foo' found"), "unknown-option", "--foo"),
    "value of a flag": (
        failed("api_server.py: error: argument --port: invalid int value: 'http'"),
        "option-refused",
        "--port: invalid int value",
    ),
    "context beyond the model's": (
        failed(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for "
            "ModelConfig\n  Value error, User-specified max_model_len (65536) is greater "
            "than the derived max_model_len (max_position_embeddings=40960 or "
            "model_max_length=None in model's config.json)."
        ),
        "option-refused",
        "--set max-model-len=40960",
    ),
    "architecture": (
        failed(
            "ValueError: Model architectures ['FooForCausalLM'] are not supported for now. "
            "Supported architectures: dict_keys([])"
        ),
        "architecture-unsupported",
        "FooForCausalLM",
    ),
    "transformers' architecture": (
        failed(
            "ValueError: The checkpoint you are trying to load has model type `foo4` but "
            "Transformers does not recognize this architecture."
        ),
        "architecture-unsupported",
        "foo4",
    ),
    "code of its own": (
        failed(
            "  Value error, The repository x contains custom code which must be executed to "
            "correctly load the model. Please pass the argument `trust_remote_code=True` "
            "to allow custom code to be run."
        ),
        "remote-code",
        "--set trust-remote-code",
    ),
    "start limit": (
        failed(
            "Loading safetensors checkpoint shards:  25% Completed | 1/4 [05:00<15:00, "
            "300s/it]\n(APIServer pid=1) TimeoutError: Timed out waiting for engine core "
            "processes to start. This is often caused by slow weight loading for "
            "large models. Waited 600s (configured by VLLM_ENGINE_READY_TIMEOUT_S)."
        ),
        "engine-start-limit",
        "600 s; it had come to: 1 of 4 shards",
    ),
    "port": (failed("OSError: [Errno 98] Address already in use ('0.0.0.0', 8000)"), "port-in-use", "8000"),
    "variable of a Service": (
        failed(
            "ValueError: VLLM_PORT 'tcp://10.0.0.7:80' appears to be a URI. This may be "
            "caused by a Kubernetes service discovery issue"
        ),
        "service-variable",
        "VLLM_PORT",
    ),
    "package": (
        failed("ModuleNotFoundError: No module named 'flash_attn'"),
        "package-missing",
        "lacks flash_attn",
    ),
    "package that was not needed": (
        failed(
            "INFO 11-26 12:00:00 [a.py:1] No module named 'flash_attn', going on without\n"
            + said("KeyError: 'x'"),
            restarts=3,
        ),
        "crash-loop",
        "exit code 1",
    ),
    "fewer GPUs": (
        failed(said("torch.AcceleratorError: CUDA error: invalid device ordinal")),
        "too-few-gpus",
        "fewer GPUs",
    ),
}
