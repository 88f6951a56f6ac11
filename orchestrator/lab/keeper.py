"""PID 1 of one lab node: makes the node's namespaces, starts its daemons, reaps at once, and restarts what dies.

It is a program of its own (`python -I -S keeper.py HOME NODE`), standard library only, because it stays in memory for
as long as the lab lives. It knows nothing of networks or of libvirt's interface: `lifecycle` does that from outside.
Its namespaces have no name and no other holder, so when it ends, however it ends, the kernel ends every process,
mount, link and firewall rule of the node with it. Nothing has to be cleaned up, so nothing can be forgotten.
"""

from __future__ import annotations

import ctypes
import grp
import hashlib
import os
import signal
import stat
import sys
import time
from pathlib import Path

TYPE_CHECKING = False  # as typing's, without loading that module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# linux/sched.h and linux/mount.h; Python has neither before 3.12.
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
CLONE_NEWPID, CLONE_NEWNET = 0x2000_0000, 0x4000_0000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x8_0000

READY_NAME = "vmr-"  # the keeper is called this + the node's name (in ps and top) once its node is made
PR_SET_NAME = 15
PROVEN_KVM = "kvm"  # a file of that name in the node's folder: KVM was proven, let the node see it

BINDS = {  # folder of the node -> where libvirt looks for it
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
    "hosts": "/etc/hosts",
}
# Both daemons write their pid file straight into /run unless told; theirs is thrown away with the node's /run.
DAEMONS = {"virtlogd": "/usr/sbin/virtlogd", "libvirtd": "/usr/sbin/libvirtd"}
DEVICES = (  # the machine's nodes that QEMU and libvirt use; a missing one is left out
    "null", "zero", "full", "random", "urandom", "tty", "net/tun", "vhost-net",
)  # fmt: skip
RETRY_FIRST_S, RETRY_LAST_S, HEALTHY_S = 0.1, 0.8, 10.0


def mark(home: str) -> str:
    """What this lab's mounts are called in /proc/PID/mountinfo, so that a stray process of it can be recognised."""
    return f"vmrole-lab-{hashlib.sha256(home.encode()).hexdigest()[:8]}"


def _libc_call(name: str, *arguments: object) -> None:
    """Call a libc function that returns 0 or sets errno; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _libc_call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def enter_namespaces() -> int:
    """Become PID 1 of new namespaces; returns a pipe end for :func:`declare_ready`.

    The calling process does not return: it exits 0 when the new one has declared itself ready, 1 when that died first.
    """
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID
    _libc_call("unshare", ctypes.c_int(flags))
    starter_end, ready_end = os.pipe()
    if os.fork():  # a PID namespace begins with the next child
        os.close(ready_end)
        os._exit(0 if os.read(starter_end, 1) else 1)
    os.close(starter_end)
    return ready_end


def declare_ready(node: str, log_path: Path, ready_end: int) -> None:
    """Take the ready name, let go of the starter's streams, and let the starter end."""
    _libc_call("prctl", PR_SET_NAME, (READY_NAME + node).encode(), 0, 0, 0)
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for wanted, number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(wanted, number)
    os.write(ready_end, b"1")
    os.closerange(3, 256)


def private_mounts(home: str, folder: Path, is_host: bool) -> None:
    """Give the node its own /proc, /sys, /run, /dev and, on a host, libvirt's folders.

    Slave, not private: what the machine unmounts goes away here too, and nothing of ours reaches the machine.
    """
    _mount("none", "/", "none", MS_REC | MS_SLAVE)
    for name in BINDS if is_host else ("hosts",):
        _mount(str(folder / name), BINDS[name], "none", MS_BIND)
    private_dev(mark(home), has_kvm=(folder / PROVEN_KVM).exists())
    quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC
    _mount("proc", "/proc", "proc", quiet)
    # sysfs shows the links of the network namespace it was mounted in; libvirt reads /sys/class/net. This one has no
    # cgroup tree below it, so libvirt makes no cgroups on the machine.
    _mount("sysfs", "/sys", "sysfs", quiet)
    # Own /run, as after a power cut: no stale status file, and no D-Bus, so libvirt does not ask the machine's systemd.
    _mount(mark(home), "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for name in ("libvirt", "lock"):
        Path("/run", name).mkdir(mode=0o755)


def private_dev(name: str, *, has_kvm: bool) -> None:
    """Mount a /dev with only what QEMU needs. An unproven /dev/kvm in sight costs libvirt 100 s a start (FACTS.md)."""
    wanted = (*DEVICES, "kvm") if has_kvm else DEVICES
    found = {device: Path("/dev", device).stat() for device in wanted if Path("/dev", device).exists()}
    _mount(name, "/dev", "tmpfs", MS_NOSUID, "mode=755")
    for folder in ("net", "pts", "shm"):
        Path("/dev", folder).mkdir()
    for device, seen in found.items():
        path = Path("/dev", device)
        os.mknod(path, stat.S_IFCHR | 0o666, seen.st_rdev)
        path.chmod(0o666)  # mknod obeys the umask
    if has_kvm:
        _share_kvm(Path("/dev/kvm"))
    _mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    _mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")  # noqa: S108
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for link, target in links.items():
        Path("/dev", link).symlink_to(target)


def _share_kvm(path: Path) -> None:
    """What udev does with /dev/kvm: group kvm, mode 0660."""
    path.chmod(0o660)
    os.chown(path, 0, grp.getgrnam("kvm").gr_gid)


def set_sysctls(path: Path) -> None:
    """Apply lines `net/ipv4/ip_forward=1`. One that the kernel does not have is left out: its module is not loaded."""
    for line in path.read_text().splitlines():
        name, _, value = line.partition("=")
        target = Path("/proc/sys", name)
        if target.exists():
            target.write_text(value)


def spawn(name: str) -> int:
    """Start a daemon in the foreground with its output in the node's log folder; its pid."""
    program = DAEMONS[name]
    log = f"{BINDS['log']}/{name}.log"
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    argv = [program, "--pid-file", f"/run/{name}.pid"]
    # The keeper blocks the signals it waits for; a daemon must not inherit that.
    return os.posix_spawn(program, argv, os.environ, file_actions=actions, setsid=True, setsigmask=[])


class Supervisor:
    """Which daemons run, and when a dead one is started again: after 0.1 s, doubling to 0.8 s while it keeps dying."""

    def __init__(self, daemons: Iterable[str], spawn: Callable[[str], int]) -> None:
        self._spawn = spawn
        self._running: dict[int, str] = {}
        self._started_s: dict[str, float] = {}
        self._pause_s = dict.fromkeys(daemons, RETRY_FIRST_S)
        self._due_s = dict.fromkeys(self._pause_s, 0.0)

    def start_due(self, now_s: float) -> None:
        for name in [name for name, due_s in self._due_s.items() if due_s <= now_s]:
            del self._due_s[name]
            self._running[self._spawn(name)] = name
            self._started_s[name] = now_s

    def ended(self, pid: int, now_s: float) -> None:
        """Note that a child ended. Most are none of the daemons: QEMU, dnsmasq, HAProxy, whose parents left them."""
        name = self._running.pop(pid, "")
        if not name:
            return
        lived_s = now_s - self._started_s[name]
        self._pause_s[name] = RETRY_FIRST_S if lived_s > HEALTHY_S else min(2 * self._pause_s[name], RETRY_LAST_S)
        self._due_s[name] = now_s + self._pause_s[name]

    def wait_s(self, now_s: float) -> float:
        """How long nothing has to be started."""
        return max(0.0, min((due_s - now_s for due_s in self._due_s.values()), default=3600.0))


def reap(supervisor: Supervisor) -> None:
    """Collect every child that has ended. libvirt waits for a QEMU process to be gone, so this is its speed."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        supervisor.ended(pid, time.monotonic())


def supervise(supervisor: Supervisor) -> None:
    """Run until SIGTERM. Signals are waited for, not handled: nothing happens between two of these lines."""
    while True:
        supervisor.start_due(time.monotonic())
        signals = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, supervisor.wait_s(time.monotonic()))
        if signals is not None and signals.si_signo == signal.SIGTERM:
            return
        reap(supervisor)


def main(home: str, node: str) -> None:
    folder = Path(home, "lab", node)
    is_host = (folder / "etc").is_dir()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    ready_end = enter_namespaces()
    os.chdir("/")
    private_mounts(home, folder, is_host)
    Path("/proc/sys/kernel/hostname").write_text(node)
    set_sysctls(folder / "sysctls")
    declare_ready(node, folder / "keeper.log", ready_end)
    supervise(Supervisor(DAEMONS if is_host else (), spawn))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
