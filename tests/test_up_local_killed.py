"""`selfhost up --local` ended, killed or started twice at any moment: the next one goes on from there."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from selfhost import local
from selfhost.local.processes import of_run
from selfhost.local.store import Store, names
from tests.conftest import Cli
from tests.fakes.vllm_program import install
from tests.local_servers import Up, command, engines_of, free_port, program, running, seen, starts, until, up

__all__ = ["program", "up"]  # fixtures


def test_killed_at_random_moments_the_next_one_goes_on(up: Up, program: Path) -> None:
    install(program, delay=0.3)
    port = str(free_port())
    dice = random.Random(6)
    for number in range(10):
        with command("up", "--local", "--yes", "--port", port, "--no-smoke-test") as one:
            time.sleep(dice.uniform(0.3, 2.0))
            one.kill()
        if number % 3 == 2:
            engines = engines_of(program)
            if engines:
                os.kill(dice.choice(engines), signal.SIGKILL)
    ran = up("--port", port)
    assert ran.code == 0, ran.out + ran.err
    assert seen().phase == "ready"
    assert len(engines_of(program)) == 1
    before = running()
    local.down(Store("tiny"), with_weights=True)
    assert engines_of(program) == []
    assert of_run(before.run) == ()
    assert names() == ()


def test_interrupted_it_says_what_goes_on(up: Up, program: Path) -> None:
    install(program, gate=True)
    port = str(free_port())
    for number in (signal.SIGINT, signal.SIGTERM):
        with command("up", "--local", "--yes", "--port", port) as one:
            assert one.stdout is not None
            while b"Rollout" not in one.stdout.readline():
                assert one.poll() is None
            until(lambda: len(engines_of(program)) == 1)
            one.send_signal(number)
            _, err = one.communicate(timeout=20)
            assert one.returncode == 130
        assert b"selfhost down tiny" in err
        assert len(engines_of(program)) == 1
    (program / "go").touch()
    ran = up("--port", port)
    assert ran.code == 0, ran.out
    assert len(starts(program)) == 1


def test_two_at_once_start_one(up: Up, program: Path) -> None:
    install(program, delay=0.5)
    port = str(free_port())
    words = ("up", "--local", "--yes", "--port", port, "--no-smoke-test")
    with command(*words) as one, command(*words) as other:
        ends = [one.communicate(timeout=40), other.communicate(timeout=40)]
    assert [one.returncode, other.returncode] == [0, 0], ends
    assert len(starts(program)) == 1


def test_stopped_while_another_waits(up: Up, cli: Cli, program: Path) -> None:
    install(program, delay=30)
    with command("up", "--local", "--yes", "--port", str(free_port())) as one:
        until(lambda: len(engines_of(program)) == 1)
        assert cli("down").code == 0
        out, _ = one.communicate(timeout=20)
    assert one.returncode == 1
    assert b"stopped or replaced" in out
    assert engines_of(program) == []
