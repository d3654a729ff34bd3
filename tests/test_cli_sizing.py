"""`selfhost size`, `plan` and `render` as a user types them: answers, exit codes, files, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfhost.plan import read_plan
from tests.conftest import Cli

MODEL = "Qwen/Qwen3-32B"
LOAD = ("--context", "16k", "--concurrency", "16")


def widest(text: str) -> int:
    """Columns of the widest line; a command to copy may be longer."""
    return max(len(line) for line in text.splitlines() if not line.startswith("Next:"))


def test_the_answer_comes_first_and_the_next_step_last(cli: Cli) -> None:
    shown = cli("size", MODEL, "--gpu", "h100-sxm-80gb", "--tp", "2", *LOAD)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].startswith("Fits. 2 × H100 SXM 80GB hold 16 requests of 16,384 tokens")
    assert f"Next: selfhost plan {MODEL} --context 16384 --concurrency 16" in shown.out
    assert widest(shown.out) <= 80


def test_terms_add_up_to_the_engines_share(cli: Cli) -> None:
    sized = cli("size", MODEL, "--gpu", "h100-sxm-80gb", "--tp", "2", *LOAD, "--json").json()
    share = int(sized["gpu"]["memory_bytes"] * sized["workload"]["gpu_memory_utilization"])
    assert sum(term["bytes"] for term in sized["terms"]) == pytest.approx(share, abs=2)
    assert all(term["because"] and term["source"] for term in sized["terms"])
    assert sized["per_gpu"]["weights_bytes"] == sized["terms"][0]["bytes"]


def test_what_does_not_fit_says_by_how_much_and_what_would_help(cli: Cli) -> None:
    shown = cli("size", MODEL, "--gpu", "l4-24gb", "--tp", "2", *LOAD)
    assert shown.code == 4
    assert shown.out.startswith("Does not fit. 2 × L4 are each short ")
    assert "What would help:" in shown.out
    assert "--tp 8" in shown.out
    assert widest(shown.out) <= 80


def test_a_remedy_that_is_enough_is_enough(cli: Cli) -> None:
    words = ("size", MODEL, "--gpu", "l40s-48gb", "--tp", "2", *LOAD)
    refused = cli(*words, "--json")
    assert refused.code == 4
    enough = [change for change in refused.json()["remedies"] if change["fits"]]
    assert enough
    for change in enough:
        assert cli(*words, *change["option"].split(), "--json").json()["fits"], change


def test_without_a_gpu_only_what_needs_none(cli: Cli) -> None:
    sized = cli("size", MODEL, "--json")
    assert sized.code == 0
    facts = sized.json()
    assert facts["gpu"] is None
    assert facts["fits"] is None
    assert facts["per_gpu"]["weights_bytes"] > 60 << 30
    assert facts["per_gpu"]["activation_bytes"] is None


def test_kv_cache_memory_is_taken_as_given(cli: Cli) -> None:
    facts = cli("size", MODEL, "--kv-cache-memory", "8GiB", "--json").json()
    assert facts["per_gpu"]["kv_available_bytes"] == 8 << 30
    assert facts["kv_tokens"] == (8 << 30) // (256 << 10)


def test_defaults_are_those_of_the_release(cli: Cli) -> None:
    words = ("size", MODEL, "--gpu", "h100-sxm-80gb", "--tp", "2", "--json")
    now, then = cli(*words).json(), cli(*words, "--engine", "vllm@0.19").json()
    assert now["workload"]["gpu_memory_utilization"] == 0.92
    assert then["workload"]["gpu_memory_utilization"] == 0.9
    assert then["engine"]["version"].startswith("0.19")
    assert now["notes"] == []
    assert then["notes"] == [
        "Model classes were read in vllm@0.32.0; whether vllm@0.19.0 has Qwen3ForCausalLM is not known here."
    ]


def test_names_of_a_gpu_are_one_gpu(cli: Cli) -> None:
    names = ("h100-sxm-80gb", "NVIDIA H100 80GB HBM3", "NVIDIA-H100-80GB-HBM3")
    answers = {cli("size", MODEL, "--gpu", name, "--json").out for name in names}
    assert len(answers) == 1


def test_part_of_a_gpu(cli: Cli) -> None:
    facts = cli("size", MODEL, "--gpu", "h100-sxm-80gb", "--gpu-memory", "40GiB", "--json").json()
    assert facts["gpu"]["memory_bytes"] == 40 << 30
    assert any("time-slicing" in note for note in facts["notes"])
    mig = cli("size", "Qwen/Qwen3-4B", "--gpu", "h100-sxm-80gb:3g.40gb", "--json").json()
    assert mig["gpu"]["id"] == "h100-sxm-80gb:3g.40gb"


WRONG: list[tuple[tuple[str, ...], int]] = [
    (("size",), 2),
    (("size", MODEL, "--tp", "0"), 2),
    (("size", MODEL, "--tp", "-1"), 2),
    (("size", MODEL, "--tp", "9" * 40), 2),
    (("size", MODEL, "--tp", "two"), 2),
    (("size", MODEL, "--tp", "2048"), 2),
    (("size", MODEL, "--concurrency", "1e30"), 2),
    (("size", MODEL, "--context", "16x"), 2),
    (("size", MODEL, "--context", "0"), 2),
    (("size", MODEL, "--gpu-memory-utilization", "nan"), 2),
    (("size", MODEL, "--gpu-memory-utilization", "1.5"), 2),
    (("size", MODEL, "--quant", "q17"), 2),
    (("size", MODEL, "--engine", "vllm@banana"), 2),
    (("size", MODEL, "--engine", "vllm@99.1"), 2),
    (("size", MODEL, "--engine", "nope"), 2),
    (("size", MODEL, "--gpu", "h100-sxm-80gb", "--kv-dtype", "fp3"), 2),
    (("size", MODEL, "--speculative-tokens", "1"), 1),
    (("size", MODEL, "--max-num-batched-tokens", "64", "--max-num-seqs", "65"), 1),
    (("size", MODEL, "--gpu", "h100-sxm-80gb:3g.40gb", "--tp", "2"), 1),
    (("size", MODEL, "--concurrency", "9" * 41), 2),
    (("plan", MODEL, "--gpu", "h100-sxm-80gb", "-o", "/dev/full"), 1),
    (("size", MODEL, "--gpu", "abacus"), 1),
    (("size", MODEL, "--gpu", "h100-sxm-80gb:9g.999gb"), 1),
    (("size", MODEL, "--tp", "7"), 1),
    (("size", "no/such-model"), 1),
    (("size", "../../etc/passwd"), 1),
    (("size", "a; rm -rf /"), 1),
    (("size", ""), 1),
    (("size", "x" * 5000), 1),
    (("plan", MODEL, "--gpu", "abacus"), 1),
    (("plan", MODEL, "--gpu-memory", "40GiB"), 2),
    (("plan", MODEL, "--pick", "999"), 2),
    (("plan", MODEL, "--name", "Not A Name"), 2),
    (("plan", MODEL, "--quant", "awq-int4"), 1),
    (("plan", MODEL, "--gpu", "h100-sxm-80gb", "-o", "/proc/nowhere/plan.json"), 1),
    (("render", "missing.json", "-o", "out"), 1),
    (("render", "missing.json"), 2),
    (("render", "/dev/null", "-o", "out"), 1),
]


@pytest.mark.parametrize(("words", "code"), WRONG, ids=[" ".join(words)[:60] for words, _ in WRONG])
def test_wrong_input_is_one_error(
    words: tuple[str, ...], code: int, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = cli(*words)
    assert shown.code == code, shown
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert len(lines) in (1, 2)
    assert lines[0].startswith("Error: ")
    assert all(line.startswith("Hint: ") for line in lines[1:])
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_written_and_rendered(cli: Cli, tmp_path: Path) -> None:
    plan_file, folder = tmp_path / "plan.json", tmp_path / "out"
    planned = cli("plan", MODEL, *LOAD, "-o", plan_file)
    assert planned.code == 0
    assert widest(planned.out) <= 80 + len(str(plan_file))
    plan = read_plan(plan_file)
    assert plan.workload.max_model_len == 16384
    rendered = cli("render", plan_file, "--target", "kubernetes", "-o", folder)
    assert rendered.code == 0, rendered.err
    assert (folder / "plan.json").read_text(encoding="utf-8") == plan_file.read_text(encoding="utf-8")
    again = cli("render", plan_file, "-o", folder)
    assert again.code == 0, "an earlier rendering may be written over"


def test_rendering_keeps_its_hands_off_other_files(cli: Cli, tmp_path: Path) -> None:
    plan_file, folder = tmp_path / "plan.json", tmp_path / "out"
    assert cli("plan", MODEL, "--gpu", "h200", "-o", plan_file).code in (0, 1)
    assert cli("plan", MODEL, "--gpu", "h200-sxm-141gb", "-o", plan_file).code == 0
    folder.mkdir()
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    assert cli("render", plan_file, "-o", folder).code == 1
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_the_picked_row_is_the_plan(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    facts = cli("plan", MODEL, *LOAD, "--pick", "3", "-o", path, "--json").json()
    third = facts["placements"][2]
    assert facts["picked"] == 3
    assert facts["plan"] == json.loads(path.read_text(encoding="utf-8"))
    assert (facts["plan"]["gpu"]["id"], facts["plan"]["gpu"]["count"]) == (third["gpu_id"], third["gpus"])


def test_plan_and_size_say_the_same(cli: Cli) -> None:
    planned = cli("plan", MODEL, *LOAD, "--json").json()["placements"][0]
    words = (
        "--gpu",
        planned["gpu_id"],
        "--tp",
        str(planned["split"]["tensor"]),
        "--pp",
        str(planned["split"]["pipeline"]),
    )
    sized = cli("size", MODEL, *words, *LOAD, "--json").json()
    assert sized["fits"]
    assert sized["kv_tokens"] == planned["kv_tokens"]
    assert sized["per_gpu"]["kv_available_bytes"] == planned["kv_available_bytes"]


def test_nothing_fits_is_code_4_with_the_nearest_refusals(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    shown = cli(
        "plan", MODEL, "--context", "32k", "--concurrency", "4000", "--gpu", "l4", "--gpu", "t4", "-o", path
    )
    assert shown.code == 4
    assert shown.out.startswith(
        "Nothing fits. None of 2 kinds of GPU carries 4,000 requests of 32,768 tokens"
    )
    assert "What would help on" in shown.out
    assert not path.exists()


def test_a_fixed_split_is_kept(cli: Cli) -> None:
    facts = cli("plan", MODEL, *LOAD, "--tp", "4", "--json").json()
    assert {row["split"]["tensor"] for row in facts["placements"]} == {4}


def test_the_clock_can_be_fixed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    facts = cli("plan", MODEL, *LOAD, "--json").json()
    assert facts["plan"]["provenance"]["created"] == "2023-11-14T22:13:20Z"


def test_memory_alone_says_whose_kernels_were_assumed(cli: Cli) -> None:
    words = ("size", "Qwen/Qwen3-8B", "--gpu-memory", "24GiB", "--context", "8k")
    shown, facts = cli(*words), cli(*words, "--json").json()
    assert shown.out.startswith("Fits. 1 × GPU with 24.00 GiB holds")
    assert "Note: No --gpu was named: kernels and reserves are those of h100-sxm-80gb" in shown.out
    assert facts["gpu"] == {"id": "h100-sxm-80gb", "memory_bytes": 24 << 30}
    named = cli(*words, "--gpu", "h100-sxm-80gb", "--json").json()
    assert facts["per_gpu"] == named["per_gpu"]


def test_counts_may_be_short(cli: Cli) -> None:
    words = ("size", "Qwen/Qwen3-0.6B", "--gpu", "h100-sxm-80gb", "--json")
    short = cli(*words, "--context", "1.5k", "--concurrency", "1k", "--max-num-seqs", "1k").json()["workload"]
    assert (short["max_model_len"], short["concurrency"], short["max_num_seqs"]) == (1536, 1024, 1024)


def test_defaults_of_a_step_agree_with_each_other(cli: Cli) -> None:
    """As vLLM settles them: it would refuse more requests than the step has tokens."""
    words = ("size", "Qwen/Qwen3-0.6B", "--gpu", "h100-sxm-80gb", "--json")
    fewer = cli(*words, "--max-num-batched-tokens", "512").json()["workload"]
    assert (fewer["max_num_batched_tokens"], fewer["max_num_seqs"]) == (512, 512)
    shorter = cli(*words, "--max-num-seqs", "8", "--context", "64").json()["workload"]
    assert (shorter["max_num_batched_tokens"], shorter["max_num_seqs"]) == (512, 8)


def test_a_plan_admits_every_request_at_once(cli: Cli, tmp_path: Path) -> None:
    words = ("Qwen/Qwen3-0.6B", "--context", "128", "--concurrency", "3000", "--gpu", "a100-sxm-80gb")
    sized = cli("size", *words)
    assert "Note: A step of the engine takes 256 requests here by default" in sized.out
    shown = cli("plan", *words, "-o", tmp_path / "plan.json")
    assert shown.code == 0, shown
    assert "The plan sets 3,000 requests a step" in shown.out
    assert "by itself the engine takes 256." in " ".join(shown.out.split())
    load = read_plan(tmp_path / "plan.json").workload
    assert (load.max_num_seqs, load.max_num_batched_tokens) == (3000, 3000)


def test_a_share_that_leaves_no_room_to_start_is_said_and_helped(cli: Cli) -> None:
    words = ("size", "Qwen/Qwen3-8B", "--gpu", "h100-sxm-80gb", "--gpu-memory-utilization", "1")
    shown = cli(*words)
    assert shown.code == 4
    assert "start-up: beside the engine's share of 1 too little is left" in " ".join(shown.out.split())
    first, *others = cli(*words, "--json").json()["remedies"]
    assert first["option"] == "--gpu-memory-utilization 0.99"
    assert first["fits"]
    assert all(change["fits"] for change in others)  # what leaves the shortage as it is does not help
    assert cli(*words, *first["option"].split(), "--json").json()["fits"]


def test_the_next_step_keeps_what_was_typed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--tp 4 --context 4k --quant fp8 --engine vllm@0.19 --replicas 2 --name qwen --pick 2"
    shown = cli("plan", MODEL, "--gpu", "l40s-48gb", "--gpu", "h100-sxm-80gb", *options.split()).out
    (command,) = (line for line in shown.splitlines() if line.startswith("Next: "))
    again = cli(*command.removeprefix("Next: selfhost ").split())
    assert again.code == 0, again
    assert shown.splitlines()[0] == again.out.splitlines()[0]
    plan = read_plan(tmp_path / "plan.json")
    assert (plan.gpu.id, plan.split.tensor, plan.replicas, plan.name) == ("h100-sxm-80gb", 4, 2, "qwen")
    assert plan.engine.version == "0.19.0"
    sized = cli("size", MODEL, "--gpu", "h100-sxm-80gb", "--context", "4k", "--engine", "vllm@0.19")
    assert "selfhost plan Qwen/Qwen3-32B --engine vllm@0.19 --context 4096" in sized.out


def test_plan_to_stdout_and_render_from_stdin(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = cli("plan", MODEL, *LOAD, "--gpu", "h100-sxm-80gb", "-o", "-")
    assert printed.code == 0
    assert printed.json()["schema"] == "selfhost/plan/v1"
    assert cli("plan", MODEL, "--gpu", "h100-sxm-80gb", "-o", "-", "--json").code == 2
    (tmp_path / "plan.json").write_text("\ufeff" + printed.out.replace("\n", "\r\n"), encoding="utf-8")
    with (tmp_path / "plan.json").open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert cli("render", "-", "-o", tmp_path / "out").code == 0


def test_a_link_is_followed_and_a_device_is_kept(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("real.json")
    assert cli("plan", MODEL, *LOAD, "--gpu", "h100-sxm-80gb", "-o", tmp_path / "link.json").code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert read_plan(tmp_path / "real.json").gpu.id == "h100-sxm-80gb"
    assert cli("plan", MODEL, *LOAD, "--gpu", "h100-sxm-80gb", "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_remedies_of_a_plan_are_what_the_engine_makes_of_this_checkpoint(cli: Cli) -> None:
    words = (MODEL, "--gpu", "rtx-4090-24gb", "--tp", "2", "--context", "8k")
    assert "--quant w4a16" in cli("size", *words).out
    planned = cli("plan", *words).out
    assert "--quant fp8" in planned
    assert "--quant w4a16" not in planned


def test_what_stops_every_gpu_is_said_once(cli: Cli) -> None:
    shown = cli("plan", MODEL, "--context", "100k")
    assert shown.code == 1
    assert shown.err.count("is beyond the model's 40,960") == 1
    nodes = cli("plan", MODEL, "--gpu", "l4-24gb", "--tp", "8", "--pp", "2", "--context", "4k")
    assert "16 GPUs are more than one node has (8)" in " ".join(nodes.out.split())
    assert "cannot be rendered" not in " ".join(nodes.out.split())
    assert "Hint: Take --context 40960." in shown.err


def test_a_plan_over_nodes_leads_on_to_a_target_that_takes_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (MODEL, "--gpu", "l4-24gb", "--tp", "8", "--pp", "2", "--context", "4k", "-o", "plan.json")
    assert "Next: selfhost render plan.json --target lws -o out" in cli("plan", *words).out
    assert cli("render", "plan.json", "--target", "lws", "-o", "out").code == 0


@pytest.mark.parametrize(
    ("target", "following"),
    [("compose", "docker compose -f out/compose.yaml up"), ("systemd", "less out/README.md")],
)
def test_every_file_for_one_machine_is_explained(
    target: str, following: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("plan", MODEL, "--gpu", "l4-24gb", "--context", "4k", "-o", "plan.json")
    shown = cli("render", "plan.json", "--target", target, "-o", "out").out
    table = shown.partition("what it is\n")[2].partition("\n\n")[0].splitlines()
    assert all(len(row.split()) > 1 for row in table)
    assert "Job" not in shown
    assert f"Next: {following}" in shown
