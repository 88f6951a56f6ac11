"""An upgrade of N instances against N x (stop + boot) / parallelism, on real guests."""

import json

from tests.e2e.conftest import service, write

COUNT, AWAY = 4, 2
UPGRADE = {"domains": 2, "max_unavailable": AWAY, "min_ready": "0s"}


def upgrade_rows(lab, home):
    """Seconds from the first machine that goes to the last that is in rotation, as a part of what it has to take.

    An instance's own time is from when it was told to go, less what its drain and its shutting down take beside it:
    as measured in the same upgrade.
    """
    lab.ok("up", write(home / "roll.yaml", service("roll", instances=COUNT, upgrade=UPGRADE)))
    size = {"vcpus": 1, "memory": "144MiB"}
    lab.ok("up", write(home / "roll.yaml", service("roll", instances=COUNT, upgrade=UPGRADE, size=size)))
    found = lab.status("roll")["instances"]
    gone, back = left(lab, "roll"), {i["name"]: i["timeline"]["rotation"] for i in found}
    lab.ok("down", "roll", "--yes")
    each = [back[name] - gone[name] for name in back]
    whole = max(back.values()) - min(gone.values())
    return [
        (f"upgrade of {COUNT}, {AWAY} at once: each, stop and boot", each, ""),
        ("  the whole", [whole], ""),
        (f"  the whole against {COUNT} x (stop + boot) / {AWAY}", [whole / (sum(each) / AWAY)], "1.2"),
    ]


def left(lab, name):
    """When each instance went out of rotation for its upgrade."""
    events = [json.loads(row) for row in lab.ok("events", name, "--json").out.splitlines()]
    begun = [event for event in events if event["what"] == "upgrade: out of rotation"]
    return {event["subject"].rpartition(".")[2]: event["at"] for event in begun}
