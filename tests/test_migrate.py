"""`selfhost migrate`: every setting and metric of TGI has a row, real files come out whole, no secret is printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import selfhost.cli
from selfhost.catalog.flags import known_flags
from selfhost.catalog.flags import table as known
from selfhost.engines import EngineVersion, parse_engine
from selfhost.errors import SelfhostError
from selfhost.lint import Text, lint
from selfhost.lint.metric_names import series
from selfhost.migrate import ENGINES, Migrated, migrate, table
from selfhost.migrate.convert import VIAS, convert
from selfhost.migrate.queries import rewrite
from selfhost.plan import write_plan
from tests.conftest import Cli
from tests.plans import plan

VLLM, SGLANG = parse_engine("vllm"), parse_engine("sglang")
VERSIONS = (VLLM, SGLANG, parse_engine("vllm@0.20.0"), parse_engine("vllm@0.17.0"))
SECRET = "sk-0123456789-very-secret"
SAMPLES = {
    "QUANTIZE": ("awq", "gptq", "marlin", "eetq", "exl2", "fp8", "bitsandbytes", "bitsandbytes-nf4",
                 "bitsandbytes-fp4", "compressed-tensors"),
    "KV_CACHE_DTYPE": ("fp8_e4m3fn", "fp8_e5m2"), "CUDA_MEMORY_FRACTION": ("0.8",), "DTYPE": ("float16", "bfloat16"),
    "CUDA_GRAPHS": ("0", "1,2,4"), "CORS_ALLOW_ORIGIN": ("https://a.example",), "LORA_ADAPTERS": ("a/b,c=d/e",),
    "OTLP_ENDPOINT": ("http://otel:4317",), "SHARDED": ("true", "false"), "LOG_LEVEL": ("info,router=debug", "warn"),
    "XPU_MEMORY_FRACTION": ("0.9",), "USAGE_STATS": ("on", "off"), "PREFIX_CACHING": ("0", "1"),
    "PREFILL_CHUNKING": ("0", "1"), "TRUST_REMOTE_CODE": ("true", "false"), "HOSTNAME": ("0.0.0.0",),
    "DISABLE_GRAMMAR_SUPPORT": ("true", "false"), "REVISION": ("main",),
}  # fmt: skip

DEPLOYMENT = f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: tgi}}
spec:
  selector: {{matchLabels: {{app: tgi}}}}
  template:
    metadata:
      labels: {{app: tgi}}
    spec:
      # the pool with H100
      nodeSelector: {{pool: gpu}}
      containers:
        - name: server
          image: ghcr.io/huggingface/text-generation-inference:3.3.4
          args:
            # the model that legal approved
            - --model-id
            - meta-llama/Llama-3.1-8B-Instruct
            - --max-total-tokens=8192  # longest contract
            - --max-input-tokens
            - "7168"
            - --api-key
            - {SECRET}
          env:
            - name: NUM_SHARD
              value: "2"
            # shared by all teams
            - name: HF_TOKEN
              valueFrom:
                secretKeyRef: {{name: hf, key: token}}
            - name: HUGGINGFACE_HUB_CACHE
              value: /data
            - name: QUANTIZE
              value: eetq
            - name: MAX_CONCURRENT_REQUESTS
              value: "256"
            - name: TEAM
              value: legal
          ports:
            - containerPort: 80
          readinessProbe:
            httpGet: {{path: /health, port: 80}}
          livenessProbe:
            httpGet:
              path: /health
              port: 80
          resources:
            limits: {{nvidia.com/gpu: 2}}
---
apiVersion: v1
kind: Service
metadata: {{name: tgi}}
spec:
  selector: {{app: tgi}}
  ports:
    - port: 80
"""
ALERTS = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: tgi}
spec:
  groups:
    - name: tgi
      rules:
        - alert: Queue  # page someone
          expr: max_over_time(tgi_queue_size{namespace="llm"}[5m]) > 50
        - alert: Slow
          expr: |
            histogram_quantile(0.95, sum(rate(tgi_request_duration_bucket[5m])) by (le))
              > 10
        - alert: Refused
          expr: rate(tgi_request_failure{err="overloaded"}[5m]) > 0
        - alert: Failing
          expr: rate(tgi_request_failure[5m]) > 0
        - alert: Decode
          expr: rate(tgi_batch_inference_duration_sum{method="decode"}[5m]) > 1
"""
DASHBOARD = {
    "title": "TGI",
    "panels": [
        {"title": "queue", "targets": [{"expr": 'sum(tgi_queue_size{namespace="llm"})', "refId": "A"}]},
        {
            "title": "tokens",
            "targets": [{"expr": "rate(tgi_request_generated_tokens_sum[5m])", "refId": "A"}],
        },
        {"title": "concat", "targets": [{"expr": "rate(tgi_batch_concat[5m])", "refId": "A"}]},
    ],
}
COMPOSE = """\
services:
  tgi:
    image: ghcr.io/huggingface/text-generation-inference:3.3.7
    command:
      - --model-id=Qwen/Qwen3-8B
      - --num-shard=1
    environment:
      HF_TOKEN: ${HF_TOKEN}  # from .env
      MAX_TOTAL_TOKENS: "4096"
    volumes:
      - ./data:/data
"""


def run(text: str, version: EngineVersion = VLLM, name: str = "file.yaml") -> Migrated:
    return migrate([Text(name=name, content=text)], version)


def words(line: str, version: EngineVersion = VLLM) -> tuple[str, ...]:
    return migrate((), version, shlex.split(line)).migration.servers[0].args


def test_every_flag_variable_and_metric_of_tgi_has_a_row() -> None:
    rows, tgi = table(), known("tgi")
    assert set(tgi.flags) - set(rows.flags) == set()
    assert set(tgi.variables) - set(rows.settings) == set()
    assert set(tgi.metrics) == set(rows.metrics)


@pytest.mark.parametrize("row", table().settings.values(), ids=lambda row: row.name)
def test_a_row_says_what_it_becomes_or_why_not(row: Any) -> None:
    assert row.flag is None or row.flag in known("tgi").flags
    for engine in ENGINES:
        outcome = row.outcomes[engine]
        assert outcome.via in VIAS
        assert outcome.because or outcome.instead
        if outcome.to is not None and outcome.to.startswith("--"):
            assert outcome.to in known_flags(engine, parse_engine(engine).text)
        if outcome.to is not None and outcome.to.startswith(("VLLM_", "SGLANG_")):
            assert known(engine).variables[outcome.to].has(parse_engine(engine).text)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_no_conversion_gives_a_word_that_the_release_does_not_have(version: EngineVersion) -> None:
    flags = known_flags(version.engine, version.text)
    for row in table().settings.values():
        if row.outcomes[version.engine].via == "model":
            continue
        for value in SAMPLES.get(row.name, ("7",)):
            found = convert(row, value, version)
            for word in found.words:
                assert not word.startswith("--") or word in flags, (row.name, word)
            assert not (found.words and found.instead), row.name


def test_every_value_that_tgi_knows_has_an_answer() -> None:
    for name, flag in (("QUANTIZE", "--quantize"), ("KV_CACHE_DTYPE", "--kv-cache-dtype")):
        for engine in ENGINES:
            assert set(known("tgi").flags[flag].values) <= set(table().settings[name].outcomes[engine].values)


@pytest.mark.parametrize("engine", ENGINES)
def test_new_metrics_exist(engine: str) -> None:
    there = series(engine)
    for row in table().metrics.values():
        new = row.outcomes[engine].to
        assert new is None or new in there or f"{new}_bucket" in there, row.name


def test_values_are_converted() -> None:
    line = "text-generation-launcher --model-id m/x --cuda-memory-fraction 0.9 --speculate 2 --cuda-graphs 0"
    found = words(
        f"{line} --kv-cache-dtype fp8_e4m3fn --lora-adapters a/b@v1,n=c/d --cors-allow-origin https://a"
    )
    assert found[0] == "m/x"
    assert found[found.index("--gpu-memory-utilization") + 1] == "0.81"
    assert json.loads(found[found.index("--speculative-config") + 1])["num_speculative_tokens"] == 2
    assert "--enforce-eager" in found
    assert found[found.index("--kv-cache-dtype") + 1] == "fp8_e4m3"
    assert found[found.index("--lora-modules") + 1 : found.index("--lora-modules") + 3] == (
        "a/b=a/b",
        "n=c/d",
    )
    assert json.loads(found[found.index("--allowed-origins") + 1]) == ["https://a"]


def test_a_flag_counts_before_its_variable_and_defaults_are_kept() -> None:
    found = words(
        "PORT=3001 MAX_TOTAL_TOKENS=1024 text-generation-launcher --model-id m/x --max-total-tokens 2048"
    )
    assert found[found.index("--max-model-len") + 1] == "2048"
    assert found[found.index("--port") + 1] == "3001"
    assert found[found.index("--shutdown-timeout") + 1] == "90"
    sglang = words("text-generation-launcher --model-id m/x", SGLANG)
    assert sglang[:2] == ("--model-path", "m/x")
    assert "--enable-metrics" in sglang
    assert sglang[sglang.index("--host") + 1] == "0.0.0.0"


def test_what_a_release_does_not_have_is_named() -> None:
    line = shlex.split("text-generation-launcher --model-id m/x --max-concurrent-requests 64")
    old = migrate((), parse_engine("vllm@0.20.0"), line).migration
    assert any("--max-num-queued-reqs" in lost.because for lost in old.unmatched)
    assert "--max-num-queued-reqs" in migrate((), VLLM, line).migration.servers[0].args


def test_docker_run_keeps_its_options() -> None:
    line = (
        f"docker run --gpus 2 --shm-size 1g -it -p 8080:80 -v data:/data -e HF_TOKEN={SECRET} -e QUANTIZE=fp8 "
        "-e TEAM=x ghcr.io/huggingface/text-generation-inference:3.3.7 --model-id m/x"
    )
    server = migrate((), VLLM, shlex.split(line)).migration.servers[0]
    made = shlex.split(server.line)
    assert SECRET not in server.line
    assert made[:10] == ["docker", "run", "--gpus", "2", "--shm-size", "1g", "-it", "-p", "8080:8000", "-v"]
    assert "vllm/vllm-openai:v" in server.line
    assert "TEAM=x" in made
    assert "HF_HOME=/data" in made
    assert made[made.index("--tensor-parallel-size") + 1] == "2"
    assert "QUANTIZE=fp8" not in made


def test_a_script_with_continued_lines(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "start.sh"
    path.write_text(
        "#!/bin/sh\nexport MAX_TOTAL_TOKENS=4096\n# start\nexec text-generation-launcher \\\n  --model-id m/x\n"
    )
    ran = cli("migrate", path, "--json")
    assert ran.code == 0, ran.err
    assert "--max-model-len 4096" in ran.json()["servers"][0]["line"]


@pytest.mark.parametrize("version", [VLLM, SGLANG], ids=str)
def test_a_deployment_is_rewritten_with_its_comments(version: EngineVersion) -> None:
    done = run(DEPLOYMENT, version)
    assert done.left == ()
    text = done.texts[0].content
    for comment in (
        "# the pool with H100",
        "# the model that legal approved",
        "# longest contract",
        "# shared by all",
    ):
        assert comment in text
    deployment, service = yaml.safe_load_all(text)
    pod = deployment["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert sorted(server["args"]) == sorted(done.migration.servers[0].args)
    assert server["ports"] == [{"containerPort": done.migration.servers[0].port}]
    assert server["livenessProbe"]["httpGet"]["port"] == server["readinessProbe"]["httpGet"]["port"]
    assert service["spec"]["ports"][0] == {"port": 80, "targetPort": done.migration.servers[0].port}
    assert pod["terminationGracePeriodSeconds"] == 120
    names = [entry["name"] for entry in server["env"]]
    assert "TEAM" in names
    assert "HF_HUB_CACHE" in names
    assert "NUM_SHARD" not in names
    assert "QUANTIZE" not in names
    assert SECRET not in text
    assert [lost.what for lost in done.migration.unmatched if "eetq" in lost.what]


def test_the_rewritten_deployment_has_no_faults_of_its_own() -> None:
    done = run(DEPLOYMENT)
    before = {finding.code for finding in lint([Text(name="a", content=DEPLOYMENT)]).findings}
    after = {finding.code for finding in lint(done.texts).findings if finding.severity == "error"}
    assert after <= before


def test_command_flow_lists_and_references() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
    - image: ghcr.io/huggingface/text-generation-inference:3.3.7
      name: c
      command: ["text-generation-launcher"]
      args: ["--model-id", "$(MODEL)", "--port", "8080"]
      env:
        - name: MODEL
          valueFrom: {configMapKeyRef: {name: m, key: model}}
        - name: API_KEY
          valueFrom: {secretKeyRef: {name: k, key: key}}
        - name: MAX_TOTAL_TOKENS
          valueFrom: {configMapKeyRef: {name: m, key: tokens}}
"""
    done = run(text)
    assert done.left == ()
    container = yaml.safe_load(done.texts[0].content)["spec"]["containers"][0]
    assert container["command"] == ["vllm", "serve"]
    assert container["args"][0] == "$(MODEL)"
    assert container["args"][container["args"].index("--max-model-len") + 1] == "$(MAX_TOTAL_TOKENS)"
    env = {entry["name"]: entry for entry in container["env"]}
    assert env["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "k"
    assert "MAX_TOTAL_TOKENS" in env
    assert "API_KEY" not in env


def test_settings_of_a_config_map_beside_it_count() -> None:
    text = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {MODEL_ID: m/x, MAX_TOTAL_TOKENS: "512"}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
    - name: c
      image: ghcr.io/huggingface/text-generation-inference:3.3.7
      envFrom:
        - configMapRef: {name: conf}
        - secretRef: {name: keys}
"""
    migration = run(text).migration
    assert migration.servers[0].args[0] == "m/x"
    assert "512" in migration.servers[0].args
    assert any(lost.what == "Secret keys" for lost in migration.unmatched)


@pytest.mark.parametrize("version", [VLLM, SGLANG], ids=str)
def test_a_compose_service(version: EngineVersion) -> None:
    done = run(COMPOSE, version)
    assert done.left == ()
    assert "# from .env" in done.texts[0].content
    service = yaml.safe_load(done.texts[0].content)["services"]["tgi"]
    args = list(done.migration.servers[0].args)
    assert sorted(service["command"][-len(args) :]) == sorted(args)
    assert (service["command"][0] == "python3") == (version.engine == "sglang")
    assert "4096" in service["command"]
    assert service["environment"] == {"HF_TOKEN": "${HF_TOKEN}", "HF_HOME": "/data"}


def test_a_shell_script_is_printed_and_left_with_its_service() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata:
  name: p
  labels: {app: p}
spec:
  containers:
    - name: c
      image: ghcr.io/huggingface/text-generation-inference:3.3.7
      command: ["/bin/sh", "-c"]
      args: ["text-generation-launcher --model-id m/x --num-shard 2 && echo done"]
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec:
  selector: {app: p}
  ports: [{port: 80}]
"""
    done = run(text)
    assert done.texts[0].content == text
    assert [lost.what for lost in done.left] == ["Pod/p c"]
    assert done.migration.unmatched == ()
    assert "--tensor-parallel-size" in done.migration.servers[0].args


def test_a_serving_runtime_and_a_scrape_annotation() -> None:
    text = """\
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: r}
spec:
  containers:
    - name: kserve-container
      image: ghcr.io/huggingface/text-generation-inference:2.0.4
      command: [text-generation-launcher]
      args:
        - --port=8080
        - --model-id=/mnt/models
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  template:
    metadata:
      annotations:
        prometheus.io/port: "80"
    spec:
      containers:
        - name: c
          image: ghcr.io/huggingface/text-generation-inference:3.3.7
          args: [--model-id, m/x]
"""
    done = run(text)
    assert done.left == ()
    runtime, deployment = yaml.safe_load_all(done.texts[0].content)
    (container,) = runtime["spec"]["containers"]
    assert container["command"] == ["vllm", "serve"]
    assert container["args"][0] == "/mnt/models"
    assert container["env"] == [{"name": "HF_HUB_CACHE", "value": "/data"}]
    template = deployment["spec"]["template"]
    assert template["metadata"]["annotations"] == {"prometheus.io/port": "8000"}


def test_variables_of_a_config_map_go_on_under_their_new_names() -> None:
    text = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {MODEL_ID: m/x, HUGGINGFACE_HUB_CACHE: /models}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
    - name: c
      image: ghcr.io/huggingface/text-generation-inference:3.3.7
      envFrom:
        - configMapRef: {name: conf}
"""
    done = run(text)
    assert done.left == ()
    pod = list(yaml.safe_load_all(done.texts[0].content))[1]
    assert pod["spec"]["containers"][0]["env"] == [
        {"name": "HF_HUB_CACHE", "value": "$(HUGGINGFACE_HUB_CACHE)"}
    ]


def test_a_template_that_is_not_rendered_is_told(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "deployment.yaml"
    path.write_text("{{- if .Values.tgi }}\nkind: Deployment\nimage: {{ .Values.image }}\n{{- end }}\n")
    ran = cli("migrate", path)
    assert ran.code == 1
    assert "helm template" in ran.err


def test_alerts_are_rewritten_where_they_say_the_same() -> None:
    done = run(ALERTS)
    rules = yaml.safe_load(done.texts[0].content)["spec"]["groups"][0]["rules"]
    expr = {rule["alert"]: rule["expr"] for rule in rules}
    assert expr["Queue"] == 'max_over_time(vllm:num_requests_waiting{namespace="llm"}[5m]) > 50'
    assert "vllm:e2e_request_latency_seconds_bucket" in expr["Slow"]
    assert expr["Refused"] == "rate(vllm:admission_rejections_total[5m]) > 0"
    assert expr["Failing"] == "rate(tgi_request_failure[5m]) > 0"
    assert "method" in expr["Decode"]
    assert "tgi_" in expr["Decode"]
    assert "# page someone" in done.texts[0].content
    assert len(done.migration.unmatched) == 2
    assert all(lost.instead for lost in done.migration.unmatched)
    assert done.migration.servers == ()


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("version", [VLLM, SGLANG], ids=str)
def test_a_dashboard(version: EngineVersion, embedded: bool) -> None:
    text = json.dumps(DASHBOARD, indent=2)
    if embedded:
        data = {"tgi.json": text}
        text = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "data": data},
                              default_style="|")  # fmt: skip
    done = run(text, version)
    body = yaml.safe_load(done.texts[0].content)
    board = json.loads(body["data"]["tgi.json"]) if embedded else body
    queue, tokens, concat = (panel["targets"][0]["expr"] for panel in board["panels"])
    assert "tgi_" not in queue
    assert 'namespace="llm"' in queue
    assert tokens.endswith("_sum[5m])")
    assert "tgi_" not in tokens
    assert concat == "rate(tgi_batch_concat[5m])"
    assert [change.new is None for change in done.migration.queries] == [False, False, True]


def test_autoscalers() -> None:
    hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": "tgi_queue_size"}}}]}}  # fmt: skip
    keda = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "k"}, "spec": {
        "triggers": [{"type": "prometheus", "metadata": {"query": "sum(tgi_batch_current_size)"}}]}}  # fmt: skip
    text = run(yaml.safe_dump_all([hpa, keda]), SGLANG).texts[0].content
    assert "sglang:num_queue_reqs" in text
    assert "sum(sglang:num_running_reqs)" in text
    assert "tgi_" not in text


def test_labels_of_tgi_alone_block_a_rewriting() -> None:
    found = rewrite('sum(tgi_request_duration_sum{err="x"})', VLLM)
    assert found is not None
    assert found.text is None
    assert "err" in found.because
    assert rewrite("up == 0", VLLM) is None


def test_a_plan_names_the_command(cli: Cli, tmp_path: Path) -> None:
    path, model = tmp_path / "plan.json", "meta-llama/Llama-3.1-8B-Instruct"
    made = cli("plan", model, "--engine", "tgi", "--gpu", "h100-sxm-80gb", "--context", "8k", "-o", path)
    assert made.code == 0, made.err
    ran = cli("migrate", path, "--to", "sglang", "--json")
    (line,) = ran.json()["plan"]
    assert line.startswith(f"selfhost plan {model} --engine sglang@")
    again = cli(*shlex.split(line)[1:])
    assert again.code == 0, again.err
    write_plan(plan(), path)
    assert cli("migrate", path).code == 2


def test_output_follows_its_schema_and_holds_no_secret(cli: Cli, tmp_path: Path) -> None:
    schema = json.loads(
        (Path(selfhost.cli.__file__).parent / "schemas/migrate.json").read_text(encoding="utf-8")
    )
    path, out = tmp_path / "d.yaml", tmp_path / "new.yaml"
    path.write_text(DEPLOYMENT + "---\n" + ALERTS, encoding="utf-8")
    ran = cli("migrate", path, "--json", "-o", out)
    jsonschema.validate(ran.json(), schema)
    shown = cli("migrate", path, "--strict")
    assert shown.code == 5
    assert ran.code == 0
    assert all(SECRET not in text for text in (ran.out, ran.err, shown.out, shown.err))
    assert "max-model-len" in out.read_text(encoding="utf-8")


def test_what_a_script_exports_and_addresses_sign_is_not_printed(cli: Cli, tmp_path: Path) -> None:
    script, box = tmp_path / "run.sh", tmp_path / "d.yaml"
    script.write_text(
        f"export HF_TOKEN={SECRET} DATA=/srv\n"
        "docker run -e HF_TOKEN -v $DATA:/data ghcr.io/huggingface/text-generation-inference:3.3.4 "
        "--model-id m/x --otlp-endpoint http://me:pass-of-mine@traces:4317 --api-keys hf_0123456789abcdef\n",
        encoding="utf-8",
    )
    box.write_text(
        "services: {t: {image: 'ghcr.io/huggingface/text-generation-inference:3.3.4', command: [--model-id, m/x], "
        "environment: {OTLP_ENDPOINT: 'http://me:pass-of-mine@traces:4317'}}}\n",
        encoding="utf-8",
    )
    for path in (script, box):
        for extra in ([], ["--json"], ["--to", "sglang"]):
            ran = cli("migrate", path, *extra)
            assert ran.code == 0, ran.err
            assert not [
                text
                for text in (SECRET, "pass-of-mine", "hf_0123456789abcdef")
                if text in ran.out or text in ran.err
            ]
    assert "DATA=/srv docker run" in cli("migrate", script).out
    out = tmp_path / "new.yaml"
    assert cli("migrate", box, "-o", out).code == 0
    assert "http://me:pass-of-mine@traces:4317" in out.read_text(encoding="utf-8")


def test_a_hint_names_a_file_as_it_is_called(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("hello\n", encoding="utf-8")
    assert "Hint: The file text.txt is text, no object." in cli("migrate", "text.txt").err
    write_plan(plan(), Path("plan.json"))
    assert "Hint: selfhost plan --engine" in cli("migrate", "plan.json").err


@pytest.mark.parametrize("option", ["--api-key", "--api-key=", "-e"])
@pytest.mark.parametrize("engine", ENGINES)
def test_no_key_of_a_command_line_is_printed(cli: Cli, option: str, engine: str) -> None:
    image = "ghcr.io/huggingface/text-generation-inference:3.3.7"
    given_ = {
        "--api-key": ["text-generation-launcher", "--model-id", "m/x", "--api-key", SECRET],
        "--api-key=": ["text-generation-launcher", "--model-id", "m/x", f"--api-key={SECRET}"],
        "-e": [
            "docker",
            "run",
            "-e",
            f"API_KEY={SECRET}",
            "-e",
            f"NGROK_AUTHTOKEN={SECRET}",
            image,
            "--model-id",
            "m",
        ],
    }[option]
    for extra in ([], ["--json"]):
        ran = cli("migrate", "--to", engine, *extra, "--", *given_)
        assert ran.code == 0, ran.err
        assert SECRET not in ran.out + ran.err


def test_what_holds_nothing_of_tgi_is_refused(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n")
    for arguments in ((path,), (path, "--to", "ollama"), ("no-such.yaml",)):
        ran = cli("migrate", *arguments)
        assert ran.code in (1, 2)
        assert "Hint:" in ran.err


SETTINGS = st.sampled_from([row.flag for row in table().settings.values() if row.flag])
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(SETTINGS, VALUES), max_size=6), st.sampled_from([VLLM, SGLANG]))
def test_any_values_come_out_or_are_named(pairs: list[tuple[str, str]], version: EngineVersion) -> None:
    line = ["text-generation-launcher", *(f"{flag}={value}" for flag, value in pairs)]
    migration = migrate((), version, line).migration
    assert shlex.split(migration.servers[0].line)
    assert len(migration.arguments) + len(migration.environment) + len(migration.unmatched) >= len(pairs)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(VALUES, min_size=1, max_size=3), st.sampled_from([VLLM, SGLANG]), st.booleans())
def test_any_value_in_yaml_survives(values: list[str], version: EngineVersion, flow: bool) -> None:
    args = ["--model-id", values[0], *(word for value in values for word in ("--revision", value))]
    body = {"name": "c", "image": "ghcr.io/huggingface/text-generation-inference:3.3.7", "args": args}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [body]}}
    text = yaml.safe_dump(pod, default_flow_style=flow, allow_unicode=True)
    done = run(text, version)
    new = yaml.safe_load(done.texts[0].content)["spec"]["containers"][0]
    assert done.left or sorted(new["args"]) == sorted(done.migration.servers[0].args)


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Something is found, or one sentence says why nothing is."""
    outcomes: list[object] = []
    for body in (text, f"text-generation-launcher {text}", f"expr: {text} tgi_queue_size"):
        try:
            found = run(body).migration
        except SelfhostError as refused:
            outcomes.append(str(refused))
        else:
            outcomes.append(found.servers or found.queries or found.metrics or found.unmatched)
    assert all(outcomes)
