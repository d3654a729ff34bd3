"""The Xid catalogue, and what is made of Xids: incidents, echoes, who has to be restarted, what a reboot clears."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from selfhost.catalog.xids import CLASSES, NVLINK5, nvlink_detail, xid, xids
from selfhost.health import Check
from selfhost.health.checks._incidents import pci_key
from selfhost.health.checks.xids import LEVELS_OF
from selfhost.observation import EngineSnapshot, GpuProcess, Missing, NvmlState, Observation
from tests.health_samples import BOOTED, NOW, event, gpu, judge, line, node, polls, seen

DAY = 86_400.0
NO_LOG = Missing(missing="no kernel log here")


def found(*lines: Any, gpus: Any = (), **changes: Any) -> list[Check]:
    return judge(seen(node(*(gpus or (gpu(0), gpu(1))), kernel_log=tuple(lines), **changes)))["gpu-xid"]


class TestCatalogue:
    def test_every_code_is_there(self) -> None:
        assert sorted(xids()) == list(range(1, 174))

    def test_classes(self) -> None:
        assert Counter(row.severity for row in xids().values()) == {
            "watch": 72, "app": 50, "reset": 27, "info": 18, "support": 4, "reboot": 2,
        }  # fmt: skip
        assert set(LEVELS_OF) == set(CLASSES)

    @pytest.mark.parametrize(
        ("code", "severity", "action", "immediate"),
        [
            (13, "app", "restart_engine", "RESTART_APP"),
            (31, "app", "restart_engine", "RESTART_APP"),
            (43, "app", "restart_engine", "IGNORE"),
            (48, "reset", "reset_gpu", "WORKFLOW_XID_48"),
            (63, "watch", "reset_gpu", "IGNORE"),
            (64, "support", "inspect_hardware", "RESET_GPU"),
            (74, "reset", "reset_gpu", "WORKFLOW_NVLINK_ERR"),
            (79, "reboot", "reboot_node", "RESTART_BM"),
            (94, "app", "restart_engine", "RESTART_APP"),
            (95, "reset", "reset_gpu", "RESET_GPU"),
            (106, "info", "none", "IGNORE"),
            (109, "reset", "reset_gpu", "RESET_GPU"),
            (119, "reset", "reset_gpu", "RESET_GPU"),
            (151, "reboot", "reboot_node", "RESTART_VM"),
            (154, "info", "none", "XID_154"),
            (173, "reset", "reset_gpu", ""),
        ],
    )
    def test_rows(self, code: int, severity: str, action: str, immediate: str) -> None:
        row = xid(code)
        assert (row.severity, row.action, row.immediate) == (severity, action, immediate)

    def test_where_peers_disagree_there_is_a_reason(self) -> None:
        for code in (13, 31, 43, 45, 63, 74, 94, 109, 154, *NVLINK5):
            assert len(xid(code).note) > 20, code

    def test_faults_say_what_to_do(self) -> None:
        for row in xids().values():
            assert (row.action == "none") == (row.severity == "info"), row
            assert row.meaning

    def test_unlisted_and_unused_codes_are_not_recognised(self) -> None:
        assert not xid(9999).recognised
        assert not xid(73).recognised
        assert xid(9999).severity == "watch"

    def test_nvlink_detail(self) -> None:
        fatal = nvlink_detail("NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000000)")
        assert (fatal.sub_code, fatal.fatal) == (4, True)
        assert nvlink_detail("RLW_RSP  Nonfatal XC1 i0 Link 02 (0x03f00000 0x0)").fatal is False
        assert nvlink_detail("RLW_RSP  Nonfatal XC1 i0 Link 02 (0x03f00000 0x0)").sub_code == 63
        assert nvlink_detail("").sub_code is None


class TestLevels:
    @pytest.mark.parametrize("code", sorted(set(range(1, 174)) - NVLINK5))
    def test_every_code_alone(self, code: int) -> None:
        check = found(line(code))[0]
        assert check.level == LEVELS_OF[xid(code).severity]
        assert f"Xid {code}" in check.message

    def test_unlisted(self) -> None:
        check = found(line(700))[0]
        assert check.level == "warn"
        assert "unrecognised" in check.message

    def test_none(self) -> None:
        check = found()[0]
        assert (check.level, check.gpu) == ("ok", None)

    def test_none_without_a_log_says_so(self) -> None:
        found = judge(seen(node(gpu(), kernel_log=NO_LOG)))
        assert "no earlier" in found["gpu-xid"][0].message
        assert found["kernel-log"][0].level == "skipped"

    def test_nvlink5(self) -> None:
        assert found(line(149, detail="NETIR_LINK_EVT Fatal XC0 (0x004505c6 0x0)"))[0].level == "critical"
        assert found(line(149, detail="NETIR_LINK_EVT Nonfatal XC0 (0x004505c6 0x0)"))[0].level == "warn"
        undecoded = found(line(149, detail="NETIR_LINK_EVT"))[0]
        assert undecoded.level == "warn"  # the driver asks for nothing: field 230 is 0
        assert "decode needed" in undecoded.message
        asked = [gpu(quick={"recovery_action": Missing(missing="old driver", code=3)})]
        assert found(line(149, detail="NETIR_LINK_EVT"), gpus=asked)[0].level == "critical"
        assert found(gpus=[gpu()], xids=(event(149),))[0].level == "critical"


class TestDeaf:
    @pytest.mark.parametrize(("code", "level"), [(3, "skipped"), (13, "skipped"), (999, "unknown")])
    def test_without_events_and_log_no_xid_is_no_news(self, code: int, level: str) -> None:
        deaf = NvmlState(poll_seconds=0.1, deaf=Missing(missing="no events", code=code))
        unread = Missing(missing="no kernel log in this container")
        (check,) = judge(seen(node(gpu(), nvml=deaf, kernel_log=unread)))["gpu-xid"]
        assert (check.level, "neither" in check.message) == (level, True)
        (check,) = judge(seen(node(gpu(), nvml=deaf)))["gpu-xid"]
        assert (check.level, check.message) == ("ok", "no Xid since the boot")


class TestRecoveryAction:
    def test_field_230_says_what_154_announces(self) -> None:
        assert found(gpus=[gpu()], xids=(event(154),))[0].level == "ok"

    def test_without_it_nobody_knows_what_is_asked_for(self) -> None:
        silent = [gpu(quick={"recovery_action": Missing(missing="old driver", code=3)})]
        assert found(gpus=silent, xids=(event(154),))[0].level == "unknown"
        assert found(line(154, detail="GPU recovery action changed"), gpus=silent)[0].level == "ok"


class TestGrouping:
    def test_echoes_are_told_with_their_root(self) -> None:
        checks = found(line(45, NOW - 100), line(94, NOW - 99), line(154, NOW - 98), line(48, NOW - 97))
        assert [check.level for check in checks] == ["critical"]
        assert "(Xid 48," in checks[0].message
        assert "with it Xid 45, 94, 154" in checks[0].evidence

    def test_after_a_minute_it_is_another_incident(self) -> None:
        checks = found(line(31, NOW - 200), line(45, NOW - 130))
        assert sorted(check.message.split("(Xid ")[1][:2] for check in checks) == ["31", "45"]

    def test_gpus_are_kept_apart(self) -> None:
        checks = found(line(79), line(45, address="0000:19:00"))
        assert {(check.gpu, check.level) for check in checks} == {(0, "critical"), (1, "warn")}

    def test_both_sources_of_one_xid_count_once(self) -> None:
        check = found(line(79, NOW - 50), xids=(event(79, NOW - 48),))[0]
        assert "times" not in check.evidence
        assert found(line(31, NOW - 500), xids=(event(31, NOW - 10),))[0].evidence.count("2 times since") == 1

    def test_nvml_alone(self) -> None:
        check = found(xids=(event(79, index=1),))[0]
        assert (check.gpu, check.level, check.action) == (1, "critical", "reboot_node")
        assert "seen in NVML" in check.evidence

    def test_a_gpu_that_is_not_there_any_more(self) -> None:
        check = found(line(79, address="0000:c1:00"))[0]
        assert (check.gpu, check.level) == (None, "critical")
        assert "0000:c1:00" in check.message

    def test_a_reboot_clears(self) -> None:
        assert found(line(79, BOOTED - 60))[0].level == "ok"
        assert found(line(79, BOOTED + 60))[0].level == "critical"

    def test_addresses(self) -> None:
        assert (
            pci_key("PCI:0000:18:00") == pci_key("00000000:18:00.0") == pci_key("0000:18:00") == (0, 0x18, 0)
        )
        assert pci_key("0009:01:00") == (9, 1, 0)
        assert pci_key("nonsense") is None


class TestWhom:
    def test_the_process_on_the_gpu(self) -> None:
        check = found(line(94, pid=4123))[0]
        assert "restart VLLM::Worker 4123" in check.message
        assert check.action == "restart_engine"

    def test_its_pod(self) -> None:
        mine = GpuProcess(pid=4123, name="VLLM::Worker", pod="llama-0", namespace="llm")
        check = found(line(94, pid=4123), gpus=[gpu(rare={"processes": (mine,)})])[0]
        assert "restart pod llm/llama-0" in check.message

    def test_its_engine(self) -> None:
        engine = EngineSnapshot(
            name="llama-70b", url="http://127.0.0.1:8000", engine="vllm", at=NOW, pids=(4123,)
        )
        history = seen(node(gpu(), kernel_log=(line(31, pid=4123),)), engines=(engine,))
        assert "restart engine llama-70b" in judge(history)["gpu-xid"][0].message

    def test_the_line_alone(self) -> None:
        check = found(line(31, pid=77, process="python3"))[0]
        assert "restart python3 77" in check.message

    def test_nobody_known(self) -> None:
        assert "restart the engine on it" in found(xids=(event(31),))[0].message


class TestRepetition:
    def test_31_again_on_one_gpu_asks_for_the_board(self) -> None:
        check = found(line(31, NOW - 4000), line(31, NOW - 400))[0]
        assert check.action == "inspect_hardware"

    def test_31_again_on_several_gpus_is_the_application(self) -> None:
        checks = found(line(31, NOW - 4000), line(31, NOW - 400), line(31, NOW - 300, address="0000:19:00"))
        actions = {check.action for check in checks}
        assert "check_application" in actions
        assert "inspect_hardware" not in actions

    def test_31_twice_in_a_week_is_the_engine(self) -> None:
        check = found(line(31, NOW - 7 * DAY), line(31, NOW - 400))[0]
        assert check.action == "restart_engine"

    def test_five_fatal_ones_in_a_day(self) -> None:
        lines = [line(119, NOW - 1000 * (place + 1)) for place in range(5)]
        checks = judge(seen(node(gpu(), kernel_log=tuple(lines))))
        assert checks["gpu-xid-repeated"][0].action == "inspect_hardware"
        assert "gpu-xid-repeated" not in judge(seen(node(gpu(), kernel_log=tuple(lines[:4]))))

    def test_a_storm_is_one_incident(self) -> None:
        checks = judge(
            seen(node(gpu(), kernel_log=tuple(line(119, NOW - 900 + place) for place in range(600))))
        )
        assert len(checks["gpu-xid"]) == 1
        assert "600 times" in checks["gpu-xid"][0].evidence
        assert "gpu-xid-repeated" not in checks


class TestReset:
    def with_log(self, history: tuple[Observation, ...], code: int) -> Check:
        from dataclasses import replace

        log = (line(code, NOW - 100),)
        return judge(tuple(replace(one, node=replace(one.node, kernel_log=log)) for one in history))[
            "gpu-xid"
        ][0]

    def test_that_nothing_is_asked_for_is_no_proof(self) -> None:
        check = self.with_log(polls(1), 119)
        assert check.level == "critical"
        assert "field 230 is 0" in check.evidence

    def test_a_recovery_that_was_asked_for_and_is_over(self) -> None:
        check = self.with_log(polls(2, quick={"recovery_action": lambda n: 1 - n}), 119)
        assert check.level == "warn"
        assert "was reset" in check.evidence

    def test_counters_that_began_anew(self) -> None:
        assert self.with_log(polls(2, quick={"energy_joules": lambda n: 1e6 - 9e5 * n}), 95).level == "warn"

    def test_off_the_bus_is_not_cleared_by_a_reset(self) -> None:
        assert self.with_log(polls(2, quick={"recovery_action": lambda n: 1 - n}), 79).level == "critical"


class TestSwitches:
    def sxid(self, detail: str) -> list[Check]:
        from selfhost.observation import KernelEvent

        one = KernelEvent(at=NOW - 9, kind="sxid", code=12028, pci_address="0000:c1:00.0", detail=detail)
        return judge(seen(node(gpu(), kernel_log=(one,))))["nvswitch-sxid"]

    def test_levels(self) -> None:
        assert self.sxid("Non-fatal, Link 32 egress")[0].level == "warn"
        assert self.sxid("Fatal, Link 32 egress")[0].level == "critical"
        assert judge(seen(node(gpu())))["nvswitch-sxid"][0].level == "ok"
        assert judge(seen(node(gpu(), kernel_log=NO_LOG)))["nvswitch-sxid"][0].level == "skipped"
