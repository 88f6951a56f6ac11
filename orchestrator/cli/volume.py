"""`vmrole volume`: the durable disks of instances, also of those that are not there now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import SLOTS, slot_option
from orchestrator.errors import HostAway, NotFound, Refused, UserError

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.engine.volumes import VolumeSeen
    from orchestrator.ports import Progress
    from orchestrator.wiring import Wiring

MIB = 1024**2


@click.group()
def volume() -> None:
    """Volumes: list, show, snapshot, restore, delete.

    A volume is named SERVICE/INSTANCE/NAME, like hello/web-0/data.

    \b
    Example:
      vmrole volume ls
    """


@volume.command()
@click.argument("service", required=False)
@click.option("--slot", type=click.Choice(SLOTS), help="Of one slot only. Default: of both.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def ls(context: Context, service: str | None, slot: str | None, as_json: bool) -> None:
    """List volumes, of all services or of one; also those whose instance is gone.

    \b
    Example:
      vmrole volume ls hello --json
    """
    from orchestrator.cli.view import print_json, table
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        every = ((v, v.id.instance.deployment) for v in _volumes(wiring))
        found = [v for v, key in every if service in {None, key.service} and slot in {None, key.slot}]
    if as_json:
        print_json([_json(each) for each in found])
        return
    if not found:
        click.echo("no volumes")
        return
    rows = [
        (str(v.id), v.id.instance.deployment.slot, _mib(v.size_bytes), _mib(v.used_bytes), v.host or "-", _state(v),
         ", ".join(v.names) or "-")
        for v in found
    ]  # fmt: skip
    click.echo(table(("VOLUME", "SLOT", "SIZE", "USED", "HOST", "STATE", "SNAPSHOTS"), rows))


@volume.command()
@click.argument("volume")
@slot_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(context: Context, volume: str, slot: str, as_json: bool) -> None:
    """Show one volume: its size, where it is, who has it, its snapshots.

    \b
    Example:
      vmrole volume show hello/web-0/data
    """
    from orchestrator.cli.view import print_json
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        found = _find(wiring, volume, slot)
    if as_json:
        print_json(_json(found))
        return
    for key, value in _json(found).items():
        said = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{key + ':':12} {'-' if said in (None, '') else said}")


@volume.command()
@click.argument("volume")
@click.argument("name")
@slot_option
@click.pass_obj
def snapshot(context: Context, volume: str, name: str, slot: str) -> None:
    """Copy VOLUME as it is now to a snapshot called NAME, beside it on its host.

    The instance may run: the copy is what its disk is at one moment, as after a power cut. For a copy that no journal
    has to mend, stop the instance first.

    \b
    Example:
      vmrole volume snapshot hello/web-0/data before-upgrade
    """
    from orchestrator.cli.progress import display, never_silent
    from orchestrator.model.names import NAME_RULE, is_name
    from orchestrator.wiring import wired

    if not is_name(name):
        raise UserError(f"{name!r} cannot name a snapshot", NAME_RULE)
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring, wiring.alone():
        found = _find(wiring, volume, slot)
        if not found.host:
            raise Refused(
                f"{volume} is on no host: only snapshots of it are left", "`vmrole volume restore` brings it back"
            )
        if name in found.names:
            raise Refused(f"{volume} has a snapshot {name} already", f"`vmrole volume rm {volume} --snapshot {name}`")
        user = found.user.name if found.user is not None and found.is_in_use else ""
        with display() as shown, never_silent(shown.say) as report:
            report(f"copying {volume}")
            wiring.hosts[found.host].snapshot_volume(found.id, name, user)
    click.echo(f"{volume} has the snapshot {name}")


@volume.command()
@click.argument("volume")
@click.argument("name")
@slot_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def restore(context: Context, volume: str, name: str, slot: str, yes: bool) -> None:
    """Put VOLUME back to its snapshot NAME; what was written since is lost. Its instance must be stopped.

    \b
    Example:
      vmrole stop hello/web-0
      vmrole volume restore hello/web-0/data before-upgrade --yes
      vmrole start hello/web-0
    """
    from orchestrator.cli.deployments import confirm
    from orchestrator.cli.progress import display, never_silent
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring, wiring.alone():
        found = _find(wiring, volume, slot)
        if name not in found.names:
            known = ", ".join(found.names) or "none"
            raise NotFound(f"{volume} has no snapshot {name}; known: {known}", "`vmrole volume ls` lists them")
        _refuse_if_in_use(found)
        confirm(f"Put {volume} back to {name}? What was written since is lost.", yes=yes)
        with display() as shown, never_silent(shown.say) as report:
            report(f"restoring {volume}")
            _restore(wiring, found, name, report)
    click.echo(f"{volume} is back at {name}")


@volume.command()
@click.argument("volume")
@slot_option
@click.option("--snapshot", metavar="NAME", help="Delete only this snapshot of it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(context: Context, volume: str, slot: str, snapshot: str | None, yes: bool) -> None:
    """Delete VOLUME with all that is on it and its snapshots. Its instance must be stopped, or gone.

    \b
    Example:
      vmrole volume rm hello/web-0/data --yes
    """
    from orchestrator.cli.deployments import confirm
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring, wiring.alone():
        found = _find(wiring, volume, slot, missing_ok=snapshot is None)
        if snapshot is not None:
            if snapshot not in found.names:
                raise NotFound(f"{volume} has no snapshot {snapshot}", "`vmrole volume ls` lists them")
            confirm(f"Delete the snapshot {snapshot} of {volume}?", yes=yes)
            mine = {found.id.snapshot_marker(snapshot), found.id.snapshot(snapshot)}
            doomed = tuple((host, file) for host, file in found.files if file in mine)
        else:
            _refuse_if_in_use(found)
            count = f" and its {len(found.snapshots)} snapshots" if found.snapshots else ""
            confirm(f"Delete {volume}{count}, with all that is on it?", yes=yes)
            _forget(wiring, found)
            doomed = found.files
        for host, file in doomed:
            wiring.hosts[host].delete_volume(file)
    click.echo(f"{volume}{f' {snapshot}' if snapshot else ''} is deleted")


def _restore(wiring: Wiring, found: VolumeSeen, name: str, report: Progress) -> None:
    """From a snapshot on its own host by libvirt's copy there, from another host's through here."""
    source = dict(found.snapshots)[name]
    target = found.host or source
    if source == target:
        wiring.hosts[target].restore_volume(found.id, name)
        return
    file = found.id.snapshot(name)
    size_bytes, _used = wiring.hosts[source].disk_usage()[file]
    with wiring.hosts[source].export_volume(file) as pieces:
        wiring.hosts[target].import_volume(found.id, size_bytes, pieces, report)


def _forget(wiring: Wiring, found: VolumeSeen) -> None:
    """From now on the instance has not had this volume: if its role asks for one, it gets a new one."""
    from dataclasses import replace

    from orchestrator.model.record import Event

    for record in wiring.store.intent().instances:
        if record.id == found.id.instance and found.id.name in record.volumes:
            left = tuple(name for name in record.volumes if name != found.id.name)
            what = f"volume {found.id.name} is deleted"
            event = Event(wiring.clock.now(), str(record.id), what, "asked for by command", "volume rm")
            wiring.store.save_instance(replace(record, volumes=left), event)


def _volumes(wiring: Wiring) -> tuple[VolumeSeen, ...]:
    from orchestrator.engine.volumes import found

    hosts = wiring.loop.see().hosts
    for host in hosts.values():
        if host.problem:
            raise HostAway(host.problem, "its volumes cannot be seen now; run the same command again")
    return found(hosts.values(), {name: wiring.hosts[name].disk_usage() for name in hosts if hosts[name].has_pool})


def _find(wiring: Wiring, text: str, slot: str, *, missing_ok: bool = False) -> VolumeSeen:
    from orchestrator.engine.volumes import VolumeSeen, parse

    key = parse(text, slot)
    if key is None:
        raise UserError(f"{text!r} does not name a volume", "say SERVICE/INSTANCE/NAME, like hello/web-0/data")
    every = _volumes(wiring)
    matching = next((each for each in every if each.id == key), None)
    if matching is None:
        owners = [record for record in wiring.store.intent().instances if record.id == key.instance]
        if missing_ok and any(key.name in record.volumes for record in owners):
            return VolumeSeen(key, "", 0, 0)
        known = ", ".join(str(each.id) for each in every) or "none"
        raise NotFound(f"there is no volume {text}; known: {known}", "`vmrole volume ls` lists them")
    return matching


def _refuse_if_in_use(found: VolumeSeen) -> None:
    if found.is_in_use:
        name = found.user.name if found.user is not None else ""
        raise Refused(f"{found.id} is in use by domain {name}", f"`vmrole stop {found.id.instance.words}` first")


def _state(found: VolumeSeen) -> str:
    if not found.host:
        return "gone, but for its snapshots"
    if not found.is_whole:
        return "incomplete"
    if found.user is None:
        return "free"
    return f"attached to {found.id.instance.name}" if found.is_in_use else f"of {found.id.instance.name}, which is off"


def _json(found: VolumeSeen) -> dict[str, object]:
    return {
        "volume": str(found.id),
        "service": found.id.instance.deployment.service,
        "slot": found.id.instance.deployment.slot,
        "instance": found.id.instance.name,
        "name": found.id.name,
        "host": found.host,
        "size_bytes": found.size_bytes,
        "used_bytes": found.used_bytes,
        "state": _state(found),
        "attached_to": found.id.instance.name if found.user is not None else None,
        "snapshots": list(found.names),
    }


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.0f} MiB"
