"""The manifests: valid by Kubernetes' own schemas, without root and secrets; the work pool takes the template."""

from __future__ import annotations

import json
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.utilities.templating import apply_values

from tests.paths import ROOT

FOLDER = ROOT / "docker" / "k8s"
TEMPLATE = json.loads((FOLDER / "pool" / "job-template.json").read_text())
DEPLOYMENTS = yaml.safe_load((FOLDER / "pool" / "prefect.yaml").read_text())["deployments"]
MANIFESTS = [one for path in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]
KUBERNETES = "1.29", kubernetes_validate.latest_version()  # the oldest that is still in use, and the newest known
each_kubernetes = pytest.mark.parametrize("version", KUBERNETES)


def job(**given: Any) -> dict[str, Any]:
    """The job that a worker makes of the template and a deployment's variables."""
    variables = TEMPLATE["variables"]["properties"]
    defaults = {name: one["default"] for name, one in variables.items() if "default" in one}
    filled = apply_values(TEMPLATE["job_configuration"], {"name": "a-run", **defaults, **given})["job_manifest"]
    container(filled)["args"] = ["prefect", "flow-run", "execute"]  # the worker's own when no command is given
    return filled


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    """The one container of a job or deployment."""
    (found,) = manifest["spec"]["template"]["spec"]["containers"]
    return found


def named(kind: str) -> dict[str, Any]:
    """The one manifest of a kind."""
    (found,) = [one for one in MANIFESTS if one["kind"] == kind]
    return found


JOBS = {"default": job(), **{one["name"]: job(**one["work_pool"].get("job_variables", {})) for one in DEPLOYMENTS}}
PODS = {"worker": named("Deployment"), **JOBS}
each_pod = pytest.mark.parametrize("name", PODS)


@each_kubernetes
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_manifests_are_valid(manifest, version):
    """Every field is one that Kubernetes knows, with a value that it takes."""
    kubernetes_validate.validate(manifest, version, strict=True)


@each_kubernetes
@pytest.mark.parametrize("name", JOBS)
def test_jobs_are_valid(name, version):
    """So are the jobs, but for two fields that Prefect wants in the pod and Kubernetes ignores there."""
    made = json.loads(json.dumps(JOBS[name]))
    pod = made["spec"]["template"]["spec"]
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    kubernetes_validate.validate(made, version, strict=True)


def test_wrong_manifest_is_noticed():
    """The checks above can fail."""
    wrong = job()
    with pytest.raises(kubernetes_validate.ValidationError, match="parallelism"):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


def test_server_takes_the_template():
    """Prefect's own check: every placeholder is a variable that the form shows, and each is used and described."""
    WorkPoolCreate(name="yard-k8s", type="kubernetes", base_job_template=TEMPLATE)
    variables = TEMPLATE["variables"]["properties"]
    assert set(variables) == set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert all(one["description"] and one["title"] for one in variables.values())


@each_pod
def test_nothing_runs_as_root(name):
    """Every pod is one that the namespace's rule lets in: no root, no more rights, nothing of the host."""
    assert named("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = PODS[name]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    rights = container(PODS[name])["securityContext"]
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["readOnlyRootFilesystem"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all(set(volume) & {"emptyDir", "persistentVolumeClaim"} for volume in pod["volumes"])


@each_pod
def test_resources_are_said(name):
    """Kubernetes can pack every pod, and ends one that takes more memory than it said."""
    resources = container(PODS[name])["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert {"cpu", "memory"} <= set(resources["limits"])


@each_pod
def test_secrets_are_references(name):
    """Nothing that sounds like a secret has its value in a manifest."""
    for variable in container(PODS[name])["env"]:
        if re.search(r"AUTH_STRING$|API_KEY$|PASSWORD|TOKEN|SECRET$", variable["name"]):
            assert set(variable["valueFrom"]["secretKeyRef"]) == {"name", "key"}
    assert "Secret" not in {one["kind"] for one in MANIFESTS}


def test_worker_hands_the_password_on_by_reference():
    """The worker's two settings for it name the secret that it has its own from."""
    env = {one["name"]: one for one in container(named("Deployment"))["env"]}
    reference = env["PREFECT_API_AUTH_STRING"]["valueFrom"]["secretKeyRef"]
    prefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_"
    assert reference == {"name": env[f"{prefix}NAME"]["value"], "key": env[f"{prefix}KEY"]["value"]}


def test_worker_may_do_what_it_must_and_no_more():
    """Jobs in its own namespace; it reads no secrets, and jobs get no token of the cluster."""
    role, binding = named("Role"), named("RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = {"kind": "ServiceAccount", "name": named("ServiceAccount")["metadata"]["name"], "namespace": "splatyard"}
    assert binding["subjects"] == [account]
    assert PODS["worker"]["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]
    resources = [resource for rule in role["rules"] for resource in rule["resources"]]
    assert sorted(resources) == ["events", "jobs", "pods", "pods/log"]
    assert "*" not in json.dumps(role)
    assert all(one["spec"]["template"]["spec"]["automountServiceAccountToken"] is False for one in JOBS.values())


def test_files_names_and_places_agree():
    """One namespace, the volume that is claimed, the pool that is worked for, and the Prefect that is locked."""
    assert {one["metadata"].get("namespace", "splatyard") for one in [*MANIFESTS, *JOBS.values()]} == {"splatyard"}
    claim = named("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for one in JOBS.values():
        volumes = {volume["name"]: volume for volume in one["spec"]["template"]["spec"]["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert {mount["name"] for mount in container(one)["volumeMounts"]} == set(volumes)
    worker = container(named("Deployment"))
    assert {one["work_pool"]["name"] for one in DEPLOYMENTS} == {worker["args"][worker["args"].index("--pool") + 1]}
    (prefect,) = re.findall(r"^prefect==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert worker["image"].startswith(f"prefecthq/prefect:{prefect}-")


def test_gpu_is_asked_for_by_training_only():
    """A job has a GPU when its deployment says so, and is then let onto the nodes that have some."""
    gpus = {name: container(one)["resources"]["limits"].get("nvidia.com/gpu") for name, one in JOBS.items()}
    assert {name: count for name, count in gpus.items() if count} == {"train-k8s": 1}
    assert container(JOBS["train-k8s"])["image"] == "splatyard:cuda"
    assert JOBS["train-k8s"]["spec"]["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert JOBS["default"]["spec"]["template"]["spec"]["tolerations"] == []


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: one["name"])
def test_deployments_are_flows_with_these_parameters(deployment):
    """The entrypoint is a flow of the installed package that takes the given parameters."""
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)
    assert flow.isasync is False
