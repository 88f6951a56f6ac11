"""Measures `vmrole image add` against the plain programs on the same file. `python -m tests.bench.images`.

A raw file of 2 GiB of which 1 GiB is data, in the page cache for both; `qemu-img convert` and `sha256sum` one after the
other, then `image add`, in turn. What is added is on the disk when it is done; what the plain programs write is not,
so that the plain programs are also measured with a sync of what they wrote.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1024**2
ROUNDS = 5
AIM = 1.1
VMROLE = Path(sys.executable).with_name("vmrole")


def main():
    with tempfile.TemporaryDirectory(prefix="vmrole-bench-", dir=Path(__file__).parents[2]) as folder:
        rows = image_rows(Path(folder))
    print("; ".join(versions()))
    print(f"{'':58}  {'median s':>9}  {'min':>7}  {'max':>7}  {'n':>3}")
    for name, values, aim in rows:
        told = f"{statistics.median(values):9.2f}  {min(values):7.2f}  {max(values):7.2f}  {len(values):3}  {aim}"
        print(f"{name:58}  {told}")


def versions():
    firsts = (["qemu-img", "--version"], ["sha256sum", "--version"], [str(VMROLE), "--version"])
    return [subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[0] for argv in firsts]


def image_rows(folder):
    """Rows for the table: name, seconds of each round, and the aim."""
    raw = folder / "disk.raw"
    make_disk(raw)
    rounds = [one_round(folder, raw, number) for number in range(ROUNDS)]
    plain, synced, ours = zip(*rounds, strict=True)
    return [
        ("plain: qemu-img convert, then sha256sum", plain, ""),
        ("plain, and a sync of what was written", synced, ""),
        ("vmrole image add", ours, ""),
        ("ratio of image add to plain", [o / p for p, _s, o in rounds], f"{AIM}"),
        ("ratio of image add to plain with sync", [o / s for _p, s, o in rounds], ""),
    ]


def make_disk(path):
    """2 GiB, of which every second 64 MiB is data that does not compress."""
    source = random.Random(1)
    with path.open("wb") as out:
        for number in range(0, 32, 2):
            out.seek(number * 64 * MIB)
            for _piece in range(64):
                out.write(source.randbytes(MIB))
        out.truncate(2048 * MIB)
    os.sync()


def one_round(folder, raw, number):
    out, home = folder / "plain.qcow2", folder / f"home{number}"
    begun = time.perf_counter()
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, out], check=True)
    subprocess.run(["sha256sum", raw], check=True, capture_output=True)
    plain = time.perf_counter() - begun
    subprocess.run(["sync", out], check=True)
    with_sync = time.perf_counter() - begun
    out.unlink()
    begun = time.perf_counter()
    env = {**os.environ, "VMROLE_HOME": str(home)}
    subprocess.run([VMROLE, "image", "add", "disk", raw], env=env, check=True, capture_output=True)
    ours = time.perf_counter() - begun
    shutil.rmtree(home)
    return plain, with_sync, ours


if __name__ == "__main__":
    main()
