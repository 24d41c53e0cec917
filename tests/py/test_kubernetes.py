#!/usr/bin/env python3
"""The manifests of deploy/k8s, without a cluster: every field exists in the API and has its type, selectors find what they should,
ports and volumes that are named exist, and the environment is made of configuration keys.

The API's models come from Debian's python3-kubernetes, which is of Kubernetes 1.22: its autoscaling/v2beta2 has the fields of v2."""
import glob
import os
import re
import subprocess
import sys

import yaml
from kubernetes import client

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
MODELS = {"apps/v1": "V1", "v1": "V1", "autoscaling/v2": "V2beta2", "networking.k8s.io/v1": "V1", "policy/v1": "V1"}
SCALARS = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def manifests():
    with open(f"{ROOT}/deploy/k8s/kustomization.yaml", encoding="utf-8") as f:
        listed = yaml.safe_load(f)["resources"]
    present = {os.path.basename(p) for p in glob.glob(f"{ROOT}/deploy/k8s/*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == present, set(listed) ^ present
    for name in listed:
        with open(f"{ROOT}/deploy/k8s/{name}", encoding="utf-8") as f:
            yield from yaml.safe_load_all(f)


def check_type(value, kind, where):
    """value is of the model's type `kind`, all the way down; an unknown field or a missing required one is an error."""
    if (inner := re.fullmatch(r"list\[(.+)\]", kind)):
        assert isinstance(value, list), f"{where}: not a list"
        for i, item in enumerate(value):
            check_type(item, inner[1], f"{where}[{i}]")
    elif (inner := re.fullmatch(r"dict\(str, (.+)\)", kind)):
        assert isinstance(value, dict), f"{where}: not a map"
        for key, item in value.items():
            check_type(item, inner[1], f"{where}.{key}")
    elif kind in SCALARS:
        right = isinstance(value, SCALARS[kind]) and not (isinstance(value, bool) and kind != "bool")
        assert right, f"{where}: {value!r} is not of type {kind}"
    elif kind != "object":
        check_model(value, getattr(client, kind), where)


def check_model(value, model, where):
    assert isinstance(value, dict), f"{where}: not a map"
    fields = {wire: name for name, wire in model.attribute_map.items()}
    for wire, item in value.items():
        assert wire in fields, f"{where}.{wire}: no such field in {model.__name__}"
        check_type(item, model.openapi_types[fields[wire]], f"{where}.{wire}")
    model(**{fields[wire]: item for wire, item in value.items()})  # raises when a required field is missing


def labels_match(selector, labels):
    return selector.items() <= labels.items()


class Manifests:
    def __init__(self):
        self.all = list(manifests())
        self.pods = {m["metadata"]["name"]: m["spec"]["template"] for m in self.all if m["kind"] in ("StatefulSet", "Deployment")}

    def kind(self, kind):
        found = [m for m in self.all if m["kind"] == kind]
        assert found, f"no {kind}"
        return found

    def selected(self, selector):
        return [n for n, pod in self.pods.items() if labels_match(selector, pod["metadata"]["labels"])]

    def test_fields(self):
        for m in self.all:
            model = getattr(client, MODELS[m["apiVersion"]] + m["kind"])
            check_model(m, model, f'{m["kind"]}/{m["metadata"]["name"]}')

    def test_a_wrong_field_would_be_found(self):
        for broken in ({"replica": 1}, {"replicas": "1"}, {}):
            try:
                check_model({"kind": "Deployment", "spec": broken}, client.V1Deployment, "broken")
            except (AssertionError, ValueError):
                continue
            raise AssertionError(f"{broken} passed")

    def test_names_are_unique(self):
        names = [(m["kind"], m["metadata"]["name"]) for m in self.all]
        assert len(names) == len(set(names))

    def test_workloads_select_their_pods(self):
        for m in self.kind("StatefulSet") + self.kind("Deployment"):
            assert self.selected(m["spec"]["selector"]["matchLabels"]) == [m["metadata"]["name"]]

    def test_services_reach_one_pod_and_its_ports(self):
        for s in self.kind("Service"):
            (name,) = self.selected(s["spec"]["selector"])
            ports = {p["name"]: p["containerPort"] for c in self.pods[name]["spec"]["containers"] for p in c["ports"]}
            assert {p["targetPort"]: p["port"] for p in s["spec"]["ports"]} == ports, name
        for m in self.kind("StatefulSet"):
            (service,) = [s for s in self.kind("Service") if s["metadata"]["name"] == m["spec"]["serviceName"]]
            assert service["spec"]["clusterIP"] == "None" and m["spec"]["replicas"] == 1

    def test_volumes_exist(self):
        claims = {m["metadata"]["name"] for m in self.kind("PersistentVolumeClaim")}
        maps = {m["metadata"]["name"] for m in self.kind("ConfigMap")}
        for name, pod in self.pods.items():
            volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
            mounts = {m["name"] for c in pod["spec"]["containers"] for m in c["volumeMounts"]}
            assert mounts == set(volumes), name
            assert {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v} <= claims
            assert {v["configMap"]["name"] for v in volumes.values() if "configMap" in v} <= maps

    def test_environment_is_configuration(self):
        """Every variable is a key of the configuration: a misspelt one would be refused at the start."""
        text = subprocess.run([f"{BUILD}/bin/decant", "config"], check=True, capture_output=True, text=True).stdout
        section, keys = None, set()
        for line in text.splitlines():
            if line.startswith("["):
                section = line[1:-1]
            elif "=" in line and not line.startswith(("#", ";")):
                keys.add(f'DECANT_{section}_{line.split("=")[0].strip()}'.upper())
        for name, pod in self.pods.items():
            for c in pod["spec"]["containers"]:
                used = {e["name"] for e in c.get("env", [])}
                assert used <= keys, f"{name}: {used - keys}"

    def test_endpoints_are_services(self):
        ports = {(s["metadata"]["name"], p["port"]) for s in self.kind("Service") for p in s["spec"]["ports"]}
        for c in self.pods["decant-worker"]["spec"]["containers"]:
            found = [re.fullmatch(r"tcp://(\w+):(\d+)", e["value"]) for e in c["env"] if "_NET_" in e["name"]]
            assert len(found) == 4 and {(f[1], int(f[2])) for f in found} <= ports

    def test_keys_are_optional_and_everybody_gets_their_own(self):
        """Pods start without keys; with them each reads, through its group, one secret that is named after it."""
        for who in ("parameter", "prototype", "worker"):
            spec = self.pods[f"decant-{who}"]["spec"]
            secrets = [v["secret"] for v in spec["volumes"] if "secret" in v]
            assert secrets == [{"secretName": f"decant-keys-{who}", "defaultMode": 0o440, "optional": True}], secrets
            assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
            (container,) = spec["containers"]
            assert {"name": "keys", "mountPath": "/keys", "readOnly": True} in container["volumeMounts"]
            (directory,) = [e for e in container["env"] if e["name"] == "DECANT_KEYS_DIRECTORY"]
            assert directory["valueFrom"]["configMapKeyRef"] == {"name": "decant-keys", "key": "directory", "optional": True}

    def test_probes_ask_the_program_itself(self):
        for name, pod in self.pods.items():
            for c in pod["spec"]["containers"]:
                commands = [c[p]["exec"]["command"] for p in ("startupProbe", "livenessProbe") if p in c]
                program = "redis-cli" if name == "decant-redis" else c["args"][0]
                assert commands and all(command[0] == program for command in commands), name

    def test_confined(self):
        for name, pod in self.pods.items():
            spec = pod["spec"]
            assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False, name
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            for c in spec["containers"]:
                assert c["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                "capabilities": {"drop": ["ALL"]}}, name
                assert {"cpu", "memory"} <= set(c["resources"]["requests"]) and "memory" in c["resources"]["limits"], name

    def test_the_wall_stands_in_the_network(self):
        """Policies together let workers reach both servers, and no server the other."""
        def allowed(source, target):
            out = inward = False
            for p in self.kind("NetworkPolicy"):
                chosen = self.selected(p["spec"]["podSelector"]["matchLabels"])
                for rule in p["spec"].get("egress", []) if source in chosen else []:
                    out |= any(target in self.selected(t["podSelector"]["matchLabels"]) for t in rule.get("to", []))
                for rule in p["spec"].get("ingress", []) if target in chosen else []:
                    inward |= any(source in self.selected(f["podSelector"]["matchLabels"])
                                  for f in rule["from"] if "podSelector" in f)
            return out and inward
        pairs = {(a, b) for a in self.pods for b in self.pods if a != b and allowed(a, b)}
        assert pairs == {("decant-worker", "decant-parameter"), ("decant-worker", "decant-prototype"),
                         ("decant-prototype", "decant-redis")}, pairs
        assert any(set(self.selected(p["spec"]["podSelector"]["matchLabels"])) == set(self.pods)
                   and set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"} for p in self.kind("NetworkPolicy"))

    def test_budgets_and_autoscaler_have_a_target(self):
        chosen = [set(self.selected(m["spec"]["selector"]["matchLabels"])) for m in self.kind("PodDisruptionBudget")]
        assert sorted(map(sorted, chosen)) == [["decant-parameter", "decant-prototype"], ["decant-worker"]]
        (scaler,) = self.kind("HorizontalPodAutoscaler")
        assert scaler["spec"]["scaleTargetRef"]["name"] in self.pods

    def test_configuration_is_the_default_run(self):
        (config,) = self.kind("ConfigMap")
        with open(f"{ROOT}/deploy/configs/fashion-mnist.ini", encoding="utf-8") as f:
            assert config["data"]["run.ini"] == f.read()


BUILD = os.path.abspath(os.environ.get("BUILD", f"{ROOT}/build"))


def main():
    case = Manifests()
    tests = [name for name in dir(case) if name.startswith("test_")]
    failed = 0
    for name in tests:
        try:
            getattr(case, name)()
            print(f"ok    {name}")
        except Exception as e:  # pylint: disable=broad-except
            failed += 1
            print(f"FAIL  {name}: {type(e).__name__}: {e}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
