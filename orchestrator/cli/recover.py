"""`vmrole recover`: a lost or damaged store, rebuilt from what the hosts have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.errors import HostAway, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.cli.context import Context
    from orchestrator.model.record import DeploymentRecord
    from orchestrator.model.world import HostSeen
    from orchestrator.ports import Host
    from orchestrator.wiring import Wiring


@click.command()
@click.pass_obj
def recover(context: Context) -> None:
    """Rebuild a lost or damaged store from the hosts: deployments, instances, and which volumes are whose.

    Machines go on running meanwhile. A store that can be read is kept, and only what it lacks is added. A damaged one
    is moved aside. What only the store knew is lost: events, and which instances were stopped on purpose (they are
    started by the next loop).

    \b
    Example:
      vmrole recover
      vmrole status hello
    """
    from orchestrator.cli.secrecy import lost
    from orchestrator.wiring import wired

    aside = _set_aside_if_damaged(context)
    if aside is not None:
        click.echo(f"the store is damaged: moved aside to {aside}")
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring, wiring.alone():
        count = _rebuild(wiring)
        for source in lost(wiring):
            click.echo(f"the secret {source} is lost: what has it runs on; `vmrole up FILE` stores it again", err=True)
    if not count:
        click.echo("nothing to recover: the hosts have nothing that the store does not know")


def _set_aside_if_damaged(context: Context) -> Path | None:
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.sqlite import SqliteStore
    from orchestrator.wiring import owner_of

    path = context.home / "vmrole.db"
    try:
        store = SqliteStore(path, owner_of(context.home))
        store.intent()
        store.close()
    except Refused as error:
        if "newer vmrole" in error.message:
            raise
        aside = path.with_name(f"vmrole.db.damaged-{SystemClock().now():.0f}")
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return aside
    return None


def _rebuild(wiring: Wiring) -> int:
    from orchestrator.cli.vips import ground_of
    from orchestrator.engine.recover import copies, counted, instances
    from orchestrator.engine.vips import apart
    from orchestrator.model.record import Event

    world = wiring.loop.see()
    hosts = world.hosts
    for host in hosts.values():
        if host.problem:
            raise HostAway(host.problem, "recovery needs every host to answer: what it cannot see it would lose")
    intent, now, count = wiring.store.intent(), wiring.clock.now(), 0
    told = {
        key: (name, intent.deployment(key) or _read(wiring.hosts[name], copy.file))
        for key, (name, copy) in sorted(copies(hosts.values()).items())
    }
    for key, (name, record) in told.items():
        stored = intent.deployment(key)
        found = instances(record, hosts, intent.owner, _bases(wiring, hosts.values()), now)
        if stored is None:
            vips = [known.vip for _name, known in told.values()]
            wanted = apart(counted(record, found), wiring.store.intent(), ground_of(wiring, world), vips)
            wiring.store.save_deployment(wanted, Event(now, str(key), "recovered", f"from host {name}", "recover"))
            count += 1
        known = {instance.id for instance in intent.members(key)}
        for instance in found:
            if instance.id not in known:
                event = Event(now, str(instance.id), "recovered", f"from host {instance.host}", "recover")
                wiring.store.save_instance(instance, event)
                count += 1
                what = f"generation {instance.generation} on host {instance.host}"
                click.echo(f"{instance.id.words}: {what}")
    return count


def _bases(wiring: Wiring, hosts: Iterable[HostSeen]) -> dict[str, str]:
    """The image below each overlay."""
    from orchestrator.model.names import machine_of_volume

    found = ((host.name, file, machine_of_volume(file)) for host in hosts for file in host.volumes)
    overlays = [(name, file) for name, file, machine in found if machine is not None and machine.overlay == file]
    return {file: wiring.hosts[name].base_of(file) for name, file in overlays}


def _read(host: Host, file: str) -> DeploymentRecord:
    from dataclasses import replace

    from orchestrator.render.records import load_deployment, upgraded

    with host.export_volume(file) as pieces:
        return replace(load_deployment(upgraded(b"".join(pieces).rstrip(b"\0"))), version=0)
