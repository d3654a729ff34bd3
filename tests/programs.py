"""Helm and kubectl for tests: what HELM names, or what `make test` put into the cache."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest

HELM_VERSION = "4.3.1"  # as the Makefile's; tests/test_programs.py compares them
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfhost" / f"helm-{HELM_VERSION}"
MISSING = "Helm is not installed: `make test` downloads it where it can, or set HELM"


@cache
def _found(name: str, variable: str) -> Path | None:
    """The program that a variable names, which then has to exist, or the one in the cache."""
    named = os.environ.get(variable)
    if named:
        program = shutil.which(named)
        if program is None:
            raise FileNotFoundError(f"{variable} names {named}, which is no program")
        return Path(program)
    return CACHE / name if os.access(CACHE / name, os.X_OK) else None


def helm() -> Path:
    """Helm 4; the test is skipped where there is none, and fails where HELM names none."""
    program = _found("helm", "HELM")
    if program is None:
        pytest.skip(MISSING)
    return program


def kubectl() -> Path:
    """kubectl, for what it does without a server (`kubectl kustomize`); as `helm` otherwise."""
    program = _found("kubectl", "KUBECTL")
    if program is None:
        pytest.skip("kubectl is not installed: `make test` downloads it where it can, or set KUBECTL")
    return program
