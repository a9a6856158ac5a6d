"""Writes the EXAMPLES of a module as a playbook, and looks at what became of them.

examples.py write WORDS.json PLAYBOOK: every module's examples, one play each.
examples.py check RESULTS: every documented return value that a success has is there; prints `MODULE TASK changed|ok` for each task of ours.
"""

import json
import subprocess
import sys

import yaml

GROUP = "imagesetd.mirror."


def documented():
    names = json.loads(subprocess.check_output(["ansible-doc", "-t", "module", "-l", "-j", "imagesetd.mirror"]))
    return json.loads(subprocess.check_output(["ansible-doc", "-t", "module", "-j"] + sorted(names)))


def write(words, playbook):
    with open(words) as file:
        words = json.load(file)
    plays = []
    for name, module in documented().items():
        text = module["examples"]
        for there, here in words["replace"].items():
            text = text.replace(there, here)
        plays.append({
            "hosts": "localhost",
            "gather_facts": False,
            "module_defaults": {"group/imagesetd.mirror.mirror": words["connection"]},
            "tasks": yaml.safe_load(text),
        })
    # What applies comes first, so that what looks has something to see.
    plays.sort(key=lambda play: "imageset_apply:" not in yaml.safe_dump(play))
    with open(playbook, "w") as file:
        yaml.safe_dump(plays, file, sort_keys=False)


def check(results):
    modules = documented()
    with open(results) as file:
        lines = [json.loads(line) for line in file]
    for line in lines:
        if not line["action"].startswith(GROUP):
            continue
        returned = modules[line["action"]]["return"]
        lacking = [key for key, said in returned.items() if said["returned"] in ("success", "when there is a plan") and key not in line["result"]]
        if lacking:
            sys.exit("%s: %s: the result lacks %s" % (line["action"], line["task"], lacking))
        print("%s\t%s\t%s" % (line["action"], line["task"], "changed" if line["result"].get("changed") else "ok"))
    print("modules\t%s" % sorted(set(modules) - set(line["action"] for line in lines)))


{"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
