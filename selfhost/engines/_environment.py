"""What servers written in Python read from their environment, whichever engine they are."""

from __future__ import annotations

from selfhost.engines import EnvVar, Serving


def python_env(serving: Serving, *, hub_home: str | None = None) -> tuple[EnvVar, ...]:
    """Offline switches of the Hub libraries, and one writable place for what libraries cache.

    Args:
        serving: what is started.
        hub_home: HF_HOME, None for a writable place apart from the weights.

    Sources: huggingface_hub 1.5 constants.py, transformers 5.5, triton 3.5 knobs.py, torch 2.10 (inductor), numba 0.63,
    flashinfer 0.6 jit/env.py (which appends .cache/flashinfer), read 2026-11-26.
    """
    home, cache = serving.home_dir, f"{serving.home_dir}/.cache"
    hub = f"{cache}/huggingface"
    rows = (
        ("HOME", home, "the only writable directory besides /tmp"),
        ("USER", "selfhost", "torch asks for a name; this user ID has no passwd entry"),
        ("HF_HUB_CACHE", serving.hub_cache_dir, "weights volume, read-only here"),
        (
            "HF_HOME",
            hub_home or hub,
            "weights" if hub_home else "what the Hub library writes besides weights",
        ),
        ("HF_HUB_OFFLINE", "1", "the weights are local; nothing is asked from the Hub"),
        ("TRANSFORMERS_OFFLINE", "1", "the same for transformers"),
        ("XDG_CACHE_HOME", cache, "libraries that follow the XDG rules"),
        ("XDG_CONFIG_HOME", f"{home}/.config", "libraries that follow the XDG rules"),
        ("TRITON_CACHE_DIR", f"{cache}/triton", "compiled kernels"),
        ("TORCHINDUCTOR_CACHE_DIR", f"{cache}/inductor", "compiled kernels"),
        ("NUMBA_CACHE_DIR", f"{cache}/numba", "else beside the read-only package"),
        ("OUTLINES_CACHE_DIR", f"{cache}/outlines", "structured-output grammars"),
        ("FLASHINFER_WORKSPACE_BASE", home, "kernels that FlashInfer compiles"),
        ("DO_NOT_TRACK", "1", "no usage reports from libraries"),
    )
    return tuple(EnvVar(name=name, value=value, because=because) for name, value, because in rows)
