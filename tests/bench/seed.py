"""How long an answer file's disc takes, with every item of setup in it."""

import time

from orchestrator.drivers.seed import IsoSeeds
from orchestrator.render import cloudinit
from tests.fakes.build import record
from tests.golden.rendered import AROUND, DISKS, PARTS, MachineSpec, Size

ROUNDS = 50


def seed_row():
    known = record(machine=MachineSpec("sha256:0", Size(), PARTS, DISKS))
    return "answer file: from the record to the disc", [once(known) for _round in range(ROUNDS)], "0.02"


def once(known):
    begun = time.perf_counter()
    IsoSeeds().disc(cloudinit.LABEL, cloudinit.seed(known, AROUND, lambda _secret: b"s3cret").files())
    return time.perf_counter() - begun
