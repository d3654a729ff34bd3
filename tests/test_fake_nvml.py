"""The fake NVML, read by the real pynvml in processes of its own: what it says, and that it says it as NVML does."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.fakes import nvml

FakeGpus = Callable[[str], dict[str, str]]

PRELUDE = """
import json, sys, threading, time
import pynvml as n
from ctypes import byref, c_uint, sizeof

def value(call, *words):
    try:
        return call(*words)
    except n.NVMLError as error:
        return f"error {error.value}"

def fields(handle, *ids):
    return [f"error {v.nvmlReturn}" if v.nvmlReturn else
            {0: v.value.dVal, 1: v.value.uiVal, 3: v.value.ullVal, 5: v.value.siVal}[v.valueType]
            for v in n.nvmlDeviceGetFieldValues(handle, list(ids))]

def show(found):
    print(json.dumps(found), flush=True)

started = value(n.nvmlInit)
gpus = [] if started else [value(n.nvmlDeviceGetHandleByIndex, i) for i in range(n.nvmlDeviceGetCount())]
gpu = gpus[0] if gpus else None
"""

INIT_FAILS = {"mismatch": "error 18", "not_loaded": "error 9"}


def program(code: str) -> list[str]:
    return [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]


def ask(environment: dict[str, str], code: str) -> Any:
    """What the code shows, run with pynvml in a process that sees the scenario."""
    ran = subprocess.run(
        program(code), env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return json.loads(ran.stdout)


@contextmanager
def running(environment: dict[str, str], code: str) -> Iterator[Callable[[], Any]]:
    """A process that goes on; each call of what this gives is the next thing that it shows."""
    with subprocess.Popen(program(code), env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout
        try:
            yield lambda: json.loads(lines.readline())
        finally:
            process.kill()


def file_of(environment: dict[str, str]) -> Path:
    return Path(environment["FAKE_NVML_SCENARIO"])


def calls_of(environment: dict[str, str]) -> nvml.Trace:
    return nvml.trace(Path(environment["FAKE_NVML_TRACE"]))


@pytest.mark.parametrize("name", nvml.scenario_names())
def test_every_scenario_says_what_is_documented_and_loads(name: str, fake_gpus: FakeGpus) -> None:
    comment = "".join(line for line in nvml.scenario(name).splitlines() if line.startswith("#"))
    assert "ocumented" in comment or "report" in comment or "nvented" in comment
    environment = fake_gpus(name)
    environment["FAKE_NVML_SCENARIO"] = os.fspath(
        nvml.SCENARIOS / f"{name}.scenario"
    )  # includes resolved in C
    started, gpus = ask(environment, "show([started, len(gpus)])")
    assert started == INIT_FAILS.get(name)
    if started is None:
        assert gpus == int(re.findall(r"^count = (\d+)", nvml.expand(nvml.scenario(name)), re.MULTILINE)[-1])


def test_a_healthy_board_answers_with_what_the_file_says(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("healthy"),
        """
        memory, first = n.nvmlDeviceGetMemoryInfo(gpu, version=n.nvmlMemory_v2), n.nvmlDeviceGetMemoryInfo(gpu)
        use = n.nvmlDeviceGetUtilizationRates(gpu)
        histogram = n.nvmlDeviceGetRowRemapperHistogram(gpu)
        show({
            "system": [n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetNVMLVersion(),
                       n.nvmlSystemGetCudaDriverVersion()],
            "identity": [n.nvmlDeviceGetName(gpu), n.nvmlDeviceGetUUID(gpu), n.nvmlDeviceGetPciInfo(gpu).busId,
                         n.nvmlDeviceGetSerial(gpu), n.nvmlDeviceGetMinorNumber(gpu), n.nvmlDeviceGetArchitecture(gpu),
                         list(n.nvmlDeviceGetCudaComputeCapability(gpu))],
            "memory": [memory.total, memory.used, memory.reserved, memory.free, first.used],
            "use": [use.gpu, use.memory],
            "clocks": [n.nvmlDeviceGetClockInfo(gpu, n.NVML_CLOCK_SM), n.nvmlDeviceGetClockInfo(gpu, n.NVML_CLOCK_MEM),
                       n.nvmlDeviceGetMaxClockInfo(gpu, n.NVML_CLOCK_SM),
                       n.nvmlDeviceGetCurrentClocksEventReasons(gpu)],
            "heat": [n.nvmlDeviceGetTemperatureV(gpu, 0), n.nvmlDeviceGetTemperature(gpu, 0),
                     n.nvmlDeviceGetMarginTemperature(gpu),
                     n.nvmlDeviceGetTemperatureThreshold(gpu, n.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)],
            "power": [n.nvmlDeviceGetPowerUsage(gpu), n.nvmlDeviceGetEnforcedPowerLimit(gpu),
                      n.nvmlDeviceGetPowerManagementLimitConstraints(gpu)],
            "pcie": [n.nvmlDeviceGetCurrPcieLinkGeneration(gpu), n.nvmlDeviceGetCurrPcieLinkWidth(gpu),
                     n.nvmlDeviceGetPcieThroughput(gpu, n.NVML_PCIE_UTIL_TX_BYTES),
                     n.nvmlDeviceGetPcieThroughput(gpu, n.NVML_PCIE_UTIL_RX_BYTES)],
            "rows": [n.nvmlDeviceGetRemappedRows(gpu), histogram.max, histogram.high, histogram.none],
            "ecc": [n.nvmlDeviceGetEccMode(gpu), n.nvmlDeviceGetTotalEccErrors(gpu, 0, 0),
                    n.nvmlDeviceGetMemoryErrorCounter(gpu, 0, 1, n.NVML_MEMORY_LOCATION_SRAM)],
            "fields": fields(gpu, 82, 194, 230, 269, 3, 142, 300),
            "flags": [n.nvmlDeviceGetUnrepairableMemoryFlag_v1(gpu), n.nvmlDeviceGetPersistenceMode(gpu),
                      value(n.nvmlDeviceValidateInforom, gpu), n.nvmlDeviceGetMigMode(gpu)],
            "absent": [value(n.nvmlDeviceGetFanSpeed, gpu), value(n.nvmlDeviceGetNvLinkState, gpu, 0)],
        })
        """,
    )
    assert found == {
        "system": ["580.95.05", "13.580.95.05", 13000],
        "identity": [
            "NVIDIA H100 80GB HBM3",
            "GPU-5d0c2b71-93ae-4f18-b6d2-0e47c1a98f35",
            "00000000:18:00.0",
            "1654823017945",
            0,
            9,
            [9, 0],
        ],
        "memory": [85520809984, 73014444032, 687865856, 11818500096, 73014444032 + 687865856],
        "use": [93, 41],
        "clocks": [1950, 2619, 1980, 4],
        "heat": [58, 58, 29, 89],
        "power": [512300, 699000, [200000, 700000]],
        "pcie": [5, 16, 481250, 793440],
        "rows": [[1, 0, 0, 0], 639, 1, 0],
        "ecc": [[1, 1], 2, 5],
        "fields": [64, -2, 0, 0, 2, 1, "error 3"],
        "flags": [0, 1, None, [0, 0]],
        "absent": ["error 3", "error 3"],
    }


def test_no_two_of_eight_gpus_and_no_two_directions_give_the_same_number(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("eight"),
        """
        show([[n.nvmlDeviceGetUUID(g), n.nvmlDeviceGetPciInfo(g).busId, n.nvmlDeviceGetMinorNumber(g),
               n.nvmlDeviceGetMemoryInfo(g).used, n.nvmlDeviceGetUtilizationRates(g).gpu,
               n.nvmlDeviceGetTemperatureV(g, 0), n.nvmlDeviceGetPowerUsage(g),
               n.nvmlDeviceGetTotalEnergyConsumption(g), n.nvmlDeviceGetClockInfo(g, 1),
               n.nvmlDeviceGetClockInfo(g, 0), n.nvmlDeviceGetPcieThroughput(g, 0), n.nvmlDeviceGetPcieThroughput(g, 1),
               *fields(g, 82, 138, 139, 197, 198)] for g in gpus])
        """,
    )
    for column in zip(*found, strict=True):
        assert len(set(column)) == 8
    for row in found:
        assert len(set(row)) == len(row)


def test_a_lost_gpu_fails_and_the_others_go_on(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("lost"),
        "show([g if isinstance(g, str) else value(n.nvmlDeviceGetPowerUsage, g) for g in gpus])",
    )
    assert found[5] == "error 15"
    assert all(isinstance(power, int) for index, power in enumerate(found) if index != 5)


def test_a_gpu_is_lost_from_its_twentieth_call_on(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("midlost"), "show([value(n.nvmlDeviceGetTemperatureV, gpus[1], 0) for _ in range(25)])"
    )
    assert found == [54] * 18 + ["error 15"] * 7  # the handle was the first call


def test_faults_by_call_by_gpu_and_by_count(fake_gpus: FakeGpus) -> None:
    text = """
    count = 2
    gpu*.temperature = 40 + i*1
    gpu*.power.usage = 100 + i*1
    gpu*.minor = !999
    ret.nvmlSystemGetDriverVersion = 10
    gpu0.ret.nvmlDeviceGetPowerUsage = 4
    gpu1.ret.nvmlDeviceGetTemperature = 16
    gpu1.after.nvmlDeviceGetTemperature = 3
    """
    found = ask(
        fake_gpus(textwrap.dedent(text)),
        """
        show([value(n.nvmlSystemGetDriverVersion), [value(n.nvmlDeviceGetPowerUsage, g) for g in gpus],
              [value(n.nvmlDeviceGetTemperature, gpus[1], 0) for _ in range(4)],
              value(n.nvmlDeviceGetMinorNumber, gpu)])
        """,
    )
    assert found == ["error 10", ["error 4", 101], [41, 41, "error 16", "error 16"], "error 999"]


def test_an_edit_of_the_file_is_seen_while_the_process_runs(fake_gpus: FakeGpus) -> None:
    environment = fake_gpus("count = 1\ngpu0.util.gpu = 7\ngpu0.util.memory = 3\n")
    watch = """
    while True:
        show(value(lambda: n.nvmlDeviceGetUtilizationRates(gpu).gpu))
        time.sleep(0.02)
    """
    with running(environment, watch) as shown:
        assert shown() == 7
        nvml.rewrite(file_of(environment), "count = 1\ngpu0.util.gpu = 8\ngpu0.util.memory = 3\n")
        assert wait_for(shown, 8)
        nvml.rewrite(
            file_of(environment), "count = 1\ngpu0.nonsense = 1\n"
        )  # stays as it was, and says so on stderr
        assert {shown() for _ in range(10)} == {8}
        nvml.rewrite(file_of(environment), "count = 1\ngpu0.ret.* = 15\n")
        assert wait_for(shown, "error 15")
        nvml.rewrite(file_of(environment), "count = 1\n")
        assert wait_for(shown, "error 3")


def wait_for(shown: Callable[[], Any], wanted: Any) -> bool:
    return any(shown() == wanted for _ in range(200))


def test_values_change_as_time_goes_by(fake_gpus: FakeGpus) -> None:
    text = """
    count = 1
    gpu0.util.gpu = 93
    gpu0.util.memory = 1
    gpu0.energy = 1000 + 50000/s
    at 0.3s gpu*.util.gpu = 0
    at 0.6s gpu0.util.gpu = absent
    """
    found = ask(
        fake_gpus(textwrap.dedent(text)),
        """
        seen, energy, began = [], [], time.monotonic()
        while time.monotonic() < began + 0.8:
            use = value(lambda: n.nvmlDeviceGetUtilizationRates(gpu).gpu)
            if use not in seen:
                seen.append(use)
            energy.append(n.nvmlDeviceGetTotalEnergyConsumption(gpu))
            time.sleep(0.01)
        show([seen, energy[0], energy[-1], time.monotonic() - began])
        """,
    )
    seen, first, last, seconds = found
    assert seen == [93, 0, "error 3"]
    assert last - first == pytest.approx(50000 * seconds, rel=0.2)


def test_events_come_one_by_one_and_once(fake_gpus: FakeGpus) -> None:
    text = "count = 2\ngpu*.events.supported = 0x8008\ngpu1.xid = 63\n"
    environment = fake_gpus(text)
    watch = """
    events = n.nvmlEventSetCreate()
    for g in gpus:
        n.nvmlDeviceRegisterEvents(g, n.nvmlEventTypeXidCriticalError | n.nvmlEventTypeGpuRecoveryAction, events)
    def told(event):
        return [n.nvmlDeviceGetIndex(event.device), event.eventType, event.eventData, event.gpuInstanceId]
    show(told(n.nvmlEventSetWait_v2(events, 2000)))
    show(value(n.nvmlEventSetWait_v2, events, 0))
    for _ in range(3):
        show(told(n.nvmlEventSetWait_v2(events, 10000)))
    again = n.nvmlEventSetCreate()
    n.nvmlDeviceRegisterEvents(gpus[1], n.nvmlEventTypeXidCriticalError, again)
    show(value(n.nvmlEventSetWait_v2, again, 60))  # what was told is history, and the library keeps none
    """
    with running(environment, watch) as shown:
        assert shown() == [1, 8, 63, 0xFFFFFFFF]
        assert shown() == "error 10"
        nvml.rewrite(
            file_of(environment), f"{text}gpu1.xid = 63, 79:3:0\ngpu0.xid = 31\ngpu0.events = 0x8000:2\n"
        )
        assert sorted(shown() for _ in range(3)) == [
            [0, 8, 31, 0xFFFFFFFF],
            [0, 0x8000, 2, 0xFFFFFFFF],
            [1, 8, 79, 3],
        ]
        assert shown() == "error 10"


def test_what_an_old_driver_does_not_have_is_not_found(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("old_driver"),
        """
        show([value(n.nvmlDeviceGetMemoryInfo, gpu, n.nvmlMemory_v2), n.nvmlDeviceGetMemoryInfo(gpu).used,
              value(n.nvmlDeviceGetComputeRunningProcesses_v3, gpu),
              [p.usedGpuMemory for p in n.nvmlDeviceGetComputeRunningProcesses_v2(gpu)],
              value(n.nvmlDeviceGetCurrentClocksEventReasons, gpu), n.nvmlDeviceGetCurrentClocksThrottleReasons(gpu),
              value(n.nvmlGpmQueryDeviceSupport, gpu)])
        """,
    )
    assert found == ["error 13", 63350767616, "error 13", [63216549888], "error 13", 0, "error 13"]


def test_structs_are_told_apart_by_their_version(fake_gpus: FakeGpus) -> None:
    code = """
    first, second, third = n.c_nvmlGpuFabricInfo_t(), n.c_nvmlGpuFabricInfo_v2_t(), n.c_nvmlGpuFabricInfo_v3_t()
    n.nvmlDeviceGetGpuFabricInfo(gpu, byref(first))
    n.nvmlDeviceGetGpuFabricInfoV(gpu, byref(second))
    asked = value(n.nvmlDeviceGetGpuFabricInfoV, gpu, byref(third))
    wrong = n.c_nvmlGpuFabricInfo_v3_t()
    wrong.version = 0x4000028
    show([[first.state, first.status], [second.state, second.healthMask],
          asked or [third.state, third.healthMask, third.healthSummary],
          value(n.nvmlDeviceGetGpuFabricInfoV, gpu, byref(wrong)), value(n.nvmlDeviceGetMemoryInfo, gpu, 0x1000028)])
    """
    assert ask(fake_gpus("eight"), code) == [[3, 0], [3, 0x51AA], [3, 0x51AA, 1], "error 25", "error 25"]
    assert ask(fake_gpus("include = eight.scenario\ngpu*.fabric.newest = 2\n"), code)[2] == "error 25"


def test_processes_in_every_version_of_the_list(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("count = 1\ngpu0.processes = self:1001:1:0, 4194811:na\ngpu0.graphics =\ngpu0.mps = !4\n"),
        """
        import os
        class First(n.Structure):
            _fields_ = [("pid", c_uint), ("used", n.c_ulonglong)]
        count, old = c_uint(5), (First * 5)()
        n._nvmlCheckReturn(n.nvmlLib.nvmlDeviceGetComputeRunningProcesses(gpu, byref(count), old))
        def told(processes):
            return [[p.pid == os.getpid() or p.pid, p.usedGpuMemory, p.gpuInstanceId] for p in processes]
        small, space = c_uint(1), (n.c_nvmlProcessInfo_v2_t * 1)()
        short = n.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3(gpu, byref(small), space)
        show({"first": [[old[i].pid == os.getpid() or old[i].pid, old[i].used] for i in range(count.value)],
              "second": told(n.nvmlDeviceGetComputeRunningProcesses_v2(gpu)),
              "third": told(n.nvmlDeviceGetComputeRunningProcesses_v3(gpu)),
              "graphics": n.nvmlDeviceGetGraphicsRunningProcesses(gpu),
              "mps": value(n.nvmlDeviceGetMPSComputeRunningProcesses, gpu), "short": [short, small.value]})
        """,
    )
    third = [[True, 1001, 1], [4194811, None, 0xFFFFFFFF]]
    assert found == {
        "first": [[True, 1001], [4194811, 2**64 - 1]],
        "second": third,
        "third": third,
        "graphics": [],
        "mps": "error 4",
        "short": [7, 2],
    }


def test_processes_in_detail(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("count = 1\ngpu0.processes = 4194811:1001, 4194823:2002\n"),
        """
        show([[p.pid, p.usedGpuMemory, p.usedGpuCcProtectedMemory]
              for p in n.nvmlDeviceGetRunningProcessDetailList(gpu, n.nvmlProcessDetailList_v1, 0)])
        """,
    )
    assert found == [[4194811, 1001, 0], [4194823, 2002, 0]]


def test_mig_devices_have_names_memory_and_processes_of_their_own(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("mig"),
        """
        rows = []
        for i in range(n.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            mig = value(n.nvmlDeviceGetMigDeviceHandleByIndex, gpu, i)
            if isinstance(mig, str):
                break
            rows.append([n.nvmlDeviceGetName(mig), n.nvmlDeviceGetUUID(mig)[:8], n.nvmlDeviceGetGpuInstanceId(mig),
                         n.nvmlDeviceGetComputeInstanceId(mig), n.nvmlDeviceGetAttributes_v2(mig).memorySizeMB,
                         n.nvmlDeviceGetMemoryInfo(mig, n.nvmlMemory_v2).used,
                         len(n.nvmlDeviceGetComputeRunningProcesses(mig))])
        parent = n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(n.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0))
        show([rows, mig, n.nvmlDeviceGetIndex(parent), value(n.nvmlDeviceGetUtilizationRates, gpu)])
        """,
    )
    assert found == [
        [
            ["NVIDIA H100 80GB HBM3 MIG 3g.40gb", "MIG-6f0b", 1, 0, 40448, 33554432000, 1],
            ["NVIDIA H100 80GB HBM3 MIG 2g.20gb", "MIG-b81d", 3, 0, 20096, 14763950080, 1],
            ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "MIG-0d47", 9, 0, 9984, 1048576000, 0],
        ],
        "error 6",
        0,
        "error 3",
    ]


def test_activity_comes_from_two_samples(fake_gpus: FakeGpus) -> None:
    code = """
    supported = n.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice
    first, second = n.nvmlGpmSampleAlloc(), n.nvmlGpmSampleAlloc()
    asked = n.c_nvmlGpmMetricsGet_t()
    asked.version, asked.numMetrics, asked.sample1, asked.sample2 = n.NVML_GPM_METRICS_GET_VERSION, 3, first, second
    for at, metric in enumerate((2, 5, 99)):
        asked.metrics[at].metricId = metric
    early = value(n.nvmlGpmMetricsGet, asked)
    taken = [value(n.nvmlGpmSampleGet, gpu, sample) for sample in (first, second)]
    if isinstance(taken[0], str):
        show([supported, taken])
    else:
        n.nvmlGpmMetricsGet(asked)
        told = [[asked.metrics[at].nvmlReturn, asked.metrics[at].value] for at in range(3)]
        n.nvmlGpmSampleFree(first)
        show([supported, early, told])
    """
    assert ask(fake_gpus("healthy"), code) == [1, "error 2", [[0, 83.25], [0, 47.5], [3, 0.0]]]
    assert ask(fake_gpus("gb10"), code) == [0, ["error 3", "error 3"]]


def test_links_have_states_and_errors_of_their_own(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("nvlink_down"),
        """
        g = gpus[2]
        links = fields(g, 91)[0]
        show([links, [i for i in range(links) if not n.nvmlDeviceGetNvLinkState(g, i)],
              n.nvmlDeviceGetNvLinkErrorCounter(g, 7, n.NVML_NVLINK_ERROR_DL_CRC_FLIT),
              n.nvmlDeviceGetNvLinkErrorCounter(g, 11, n.NVML_NVLINK_ERROR_DL_REPLAY) >= 31,
              n.nvmlDeviceGetNvLinkRemoteDeviceType(g, 0) == n.NVML_NVLINK_DEVICE_TYPE_SWITCH,
              n.nvmlDeviceGetNvLinkRemotePciInfo(g, 0).busId, value(n.nvmlDeviceGetNvLinkState, g, 18)])
        """,
    )
    assert found == [18, [7], 907, True, True, "00000000:05:00.0", "error 2"]


def test_pages_that_were_retired(fake_gpus: FakeGpus) -> None:
    found = ask(
        fake_gpus("retired_pages"),
        """
        show([len(n.nvmlDeviceGetRetiredPages(gpu, 0)), len(n.nvmlDeviceGetRetiredPages_v2(gpu, 1)),
              n.nvmlDeviceGetRetiredPagesPendingStatus(gpu), value(n.nvmlDeviceGetRemappedRows, gpu)])
        """,
    )
    assert found == [11, 2, 1, "error 3"]


def test_a_call_that_hangs_holds_up_nobody_else_and_ends_with_its_line(fake_gpus: FakeGpus) -> None:
    environment = fake_gpus("hung")
    watch = """
    hung = threading.Thread(target=lambda: show(n.nvmlDeviceGetUtilizationRates(gpus[1]).gpu), daemon=True)
    began = time.monotonic()
    hung.start()
    time.sleep(0.1)
    others = [n.nvmlDeviceGetUtilizationRates(gpus[0]).gpu, n.nvmlDeviceGetPowerUsage(gpus[1])]
    show([hung.is_alive(), *others, time.monotonic() - began < 5])
    hung.join()
    """
    with running(environment, watch) as shown:
        assert shown() == [True, 88, 479500, True]
        nvml.rewrite(file_of(environment), nvml.expand("include = eight.scenario\n"))
        assert shown() == 89


def test_calls_are_counted_by_function_and_gpu(fake_gpus: FakeGpus) -> None:
    environment = fake_gpus("eight")
    assert calls_of(environment).total == 0
    code = """
    for _ in range(3):
        n.nvmlDeviceGetPowerUsage(gpus[4])
    value(n.nvmlDeviceGetFanSpeed, gpu)
    show(None)
    """
    ask(environment, code)
    first = calls_of(environment)
    assert first.of("nvmlDeviceGetPowerUsage") == first.of("nvmlDeviceGetPowerUsage", 4) == 3
    assert (first.on(4), first.on(0), first.on(1)) == (4, 2, 1)  # each handle is a call too
    assert (first.on(None), first.total) == (2, 2 + 8 + 3 + 1)  # init and count
    ask(environment, code)
    again = calls_of(environment).since(first)
    assert again.calls == first.calls


def test_counts_are_right_after_a_kill_and_with_threads(fake_gpus: FakeGpus) -> None:
    environment = fake_gpus("eight")
    watch = """
    def work(g):
        for _ in range(500):
            n.nvmlDeviceGetPowerUsage(g)
            n.nvmlDeviceGetFieldValues(g, [82, 230])
    threads = [threading.Thread(target=work, args=(g,)) for g in gpus]
    [t.start() for t in threads]
    [t.join() for t in threads]
    show("done")
    time.sleep(60)
    """
    with running(environment, watch) as shown:
        assert shown() == "done"
    counted = calls_of(environment)
    for gpu in range(8):
        assert (
            counted.of("nvmlDeviceGetPowerUsage", gpu) == counted.of("nvmlDeviceGetFieldValues", gpu) == 500
        )


def test_in_this_process_the_library_is_found_by_its_name(nvml_library: Path, fake_gpus: FakeGpus) -> None:
    scenarios = [os.fspath(nvml.SCENARIOS / f"{name}.scenario") for name in ("gb10", "healthy")]
    code = f"""
    import ctypes, os, json
    import pynvml as n
    ctypes.CDLL({os.fspath(nvml_library)!r}, mode=ctypes.RTLD_GLOBAL)
    seen = []
    for scenario in {scenarios!r}:
        os.environ["FAKE_NVML_SCENARIO"] = scenario
        n.nvmlInit()
        seen.append(n.nvmlDeviceGetName(n.nvmlDeviceGetHandleByIndex(0)))
        n.nvmlShutdown()
    try:
        n.nvmlDeviceGetCount()
    except n.NVMLError as error:
        seen.append(error.value)
    print(json.dumps(seen))
    """
    bare = {key: text for key, text in os.environ.items() if key != "LD_LIBRARY_PATH"}
    run = [sys.executable, "-c", textwrap.dedent(code)]
    assert json.loads(subprocess.check_output(run, env=bare)) == ["NVIDIA GB10", "NVIDIA H100 80GB HBM3", 1]


def test_without_a_scenario_there_is_no_driver(nvml_library: Path) -> None:
    bare = {key: text for key, text in os.environ.items() if not key.startswith("FAKE_NVML")}
    assert ask({**bare, "LD_LIBRARY_PATH": os.fspath(nvml_library.parent)}, "show(started)") == "error 9"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("gpu0.utl.gpu = 3", "no such key"),
        ("driver 580", "no `=`"),
        ("gpu0.ret.nvmlDeviceGetColour = 3", "no such function"),
        ("at noon gpu0.minor = 3", "`at` wants seconds"),
        ("gpu77.minor = 3", "a GPU is gpu0 to gpu31"),
        ("include = elsewhere.scenario", "No such file"),
    ],
)
def test_a_slip_in_a_scenario_is_an_error_and_not_an_absent_reading(
    line: str, complaint: str, fake_gpus: FakeGpus
) -> None:
    environment = fake_gpus("count = 1\n")
    nvml.rewrite(file_of(environment), f"count = 1\n\n{line}\n")
    ran = subprocess.run(
        program("show(started)"), env=environment, capture_output=True, text=True, check=False
    )
    assert json.loads(ran.stdout) == "error 999"
    assert complaint in ran.stderr


def test_every_function_of_the_list_is_a_symbol(nvml_library: Path) -> None:
    listed = re.findall(r"^F\((\w+)\)", (nvml.HERE / "functions.def").read_text(), re.MULTILINE)
    code = f"import ctypes; lib = ctypes.CDLL({os.fspath(nvml_library)!r}); [getattr(lib, n) for n in {listed!r}]"
    assert len(listed) > 150
    subprocess.run([sys.executable, "-c", code], check=True)


STRUCTS = {  # name in abi.h -> the same in pynvml
    "Memory": pynvml.c_nvmlMemory_t,
    "MemoryV2": pynvml.c_nvmlMemory_v2_t,
    "Bar1Memory": pynvml.c_nvmlBAR1Memory_t,
    "Utilization": pynvml.c_nvmlUtilization_t,
    "Temperature": pynvml.c_nvmlTemperature_v1_t,
    "MarginTemperature": pynvml.c_nvmlMarginTemperature_v1_t,
    "Process": pynvml.c_nvmlProcessInfo_v2_t,
    "ProcessDetailList": pynvml.c_nvmlProcessDetailList_v1_t,
    "ProcessSample": pynvml.c_nvmlProcessUtilizationSample_t,
    "ProcessUsage": pynvml.c_nvmlProcessUtilizationInfo_v1_t,
    "ProcessUsageList": pynvml.c_nvmlProcessesUtilizationInfo_v1_t,
    "AnyValue": pynvml.c_nvmlValue_t,
    "FieldValue": pynvml.c_nvmlFieldValue_t,
    "PciInfo": pynvml.nvmlPciInfo_t,
    "PciInfoExt": pynvml.nvmlPciInfoExt_v1_t,
    "EventData": pynvml.c_nvmlEventData_t,
    "Attributes": pynvml.c_nvmlDeviceAttributes,
    "RemapHistogram": pynvml.c_nvmlRowRemapperHistogramValues,
    "RemappedRowsV2": pynvml.c_nvmlRemappedRowsInfo_v2_t,
    "FabricInfo": pynvml.c_nvmlGpuFabricInfo_t,
    "FabricInfoV2": pynvml.c_nvmlGpuFabricInfo_v2_t,
    "FabricInfoV3": pynvml.c_nvmlGpuFabricInfo_v3_t,
    "GpmMetric": pynvml.c_nvmlGpmMetric_t,
    "GpmSupport": pynvml.c_nvmlGpmSupport_t,
    "SramErrors": pynvml.c_nvmlEccSramErrorStatus_v1_t,
    "EccCounts": pynvml.c_nvmlEccErrorCounts_t,
    "Violation": pynvml.c_nvmlViolationTime_t,
    "Uuid": pynvml.c_nvmlUUID_t,
    "DriverBranch": pynvml.c_nvmlSystemDriverBranchInfo_v1_t,
    "FanSpeed": pynvml.c_nvmlFanSpeedInfo_t,
}


def test_structs_are_as_large_as_pynvml_has_them() -> None:
    asserted = dict(re.findall(r"sizeof\((\w+)\) == (\d+)", (nvml.HERE / "abi.h").read_text()))
    pynvml_has = {name: str(ctypes.sizeof(struct)) for name, struct in STRUCTS.items()}
    assert {name: asserted[name] for name in STRUCTS} == pynvml_has
    # Those that pynvml has no struct for, or one with an array of a fixed length after them.
    assert set(asserted) - set(STRUCTS) == {
        "ProcessV1",
        "ProcessDetail",
        "PciInfoV1",
        "EventDataV1",
        "GpmMetrics",
    }


def test_a_build_is_kept_and_one_without_functions_is_another(nvml_builds: Path) -> None:
    before = time.monotonic()
    library = nvml.build(nvml_builds)
    assert nvml.build(nvml_builds) == library
    assert nvml.build(nvml_builds, ("nvmlDeviceGetName",)) not in (library, None)
    assert library.name == nvml.SONAME
    assert time.monotonic() - before < 30
