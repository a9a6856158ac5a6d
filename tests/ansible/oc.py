#!/usr/bin/env python3
"""A small double of a cluster behind `oc`: keeps objects in the file OC_STATE, writes down what was called in OC_CALLS.

It knows the kinds of mirror rules, ConfigMaps and pools, no catalogs. A pool that is released renders its registries.conf of all rules.
"""

import base64
import json
import os
import sys

KINDS = {
    "configmaps": "ConfigMap",
    "imagedigestmirrorsets": "ImageDigestMirrorSet",
    "imagetagmirrorsets": "ImageTagMirrorSet",
    "images": "Image",
    "operatorhubs": "OperatorHub",
    "machineconfigpools": "MachineConfigPool",
}


def load():
    with open(os.environ["OC_STATE"]) as file:
        return json.load(file)


def save(state):
    with open(os.environ["OC_STATE"], "w") as file:
        json.dump(state, file)


def pool(state, name):
    configuration = {"name": "rendered-%s-%d" % (name, len(state["objects"]))}
    status = {"configuration": configuration, "machineCount": 3, "updatedMachineCount": 3}
    spec = {"paused": state["paused"].get(name, False), "configuration": configuration}
    return {"metadata": {"name": name}, "spec": spec, "status": status}


def registries_conf(state):
    sources = []
    for thing in state["objects"].values():
        rules = thing.get("spec", {})
        for rule in rules.get("imageDigestMirrors", []) + rules.get("imageTagMirrors", []):
            sources.append('[[registry]]\n  location = "%s"\n' % rule["source"])
    return "".join(sources)


def main(words):
    with open(os.environ["OC_CALLS"], "a") as file:
        file.write(json.dumps(words) + "\n")
    state = load()
    verb = [word for word in words if not word.startswith("--")]
    if verb[0] == "api-resources":
        for name, kind in KINDS.items():
            print("%s  v1  false  %s" % (name, kind))
    elif verb[0] in ("diff", "apply"):
        thing = json.load(sys.stdin)
        key = "%s/%s" % (thing["kind"], thing["metadata"]["name"])
        if verb[0] == "diff":
            return 0 if state["objects"].get(key) == thing else 1
        state["objects"][key] = thing
        save(state)
        print("%s serverside-applied" % key)
    elif verb[:2] == ["patch", "secret"]:
        state["secret"] = json.load(sys.stdin)["data"]
        save(state)
    elif verb[:2] == ["get", "secret"]:
        print(json.dumps({"data": state["secret"]}))
    elif verb[:2] == ["get", "image.config.openshift.io"]:
        print(json.dumps(state["objects"].get("Image/cluster", {"spec": {}})))
    elif verb[0] == "patch":
        state["paused"][verb[2]] = "true" in words[-1]
        save(state)
    elif verb[:2] == ["get", "machineconfigpools"]:
        print(json.dumps({"items": [pool(state, "master"), pool(state, "worker")]}))
    elif verb[:2] == ["get", "machineconfigpool"]:
        print(json.dumps(pool(state, verb[2])))
    elif verb[:2] == ["get", "machineconfig"]:
        text = base64.b64encode(registries_conf(state).encode()).decode()
        contents = {"source": "data:text/plain;charset=utf-8;base64," + text}
        files = [{"path": "/etc/containers/registries.conf", "contents": contents}]
        print(json.dumps({"spec": {"config": {"storage": {"files": files}}}}))
    else:
        sys.exit("the double does not know %s" % words)
    return 0


sys.exit(main(sys.argv[1:]))
