"""Who needs which image, and which images may go. Pure: made from the store's intent and what hosts have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import UserError
from orchestrator.model.image import is_dated
from orchestrator.model.making import images_of
from orchestrator.model.names import machine_of_volume
from orchestrator.model.record import Wanted
from orchestrator.model.spec import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orchestrator.model.image import Image, Traits
    from orchestrator.model.names import InstanceId
    from orchestrator.model.record import DeploymentRecord, InstanceRecord, Intent
    from orchestrator.model.world import HostSeen


@dataclass(frozen=True, slots=True)
class Use:
    """Somebody needs the image ``digest``: ``who`` in words. ``digest`` "": it may be any image."""

    digest: str
    who: str


def stored_uses(intent: Intent) -> tuple[Use, ...]:
    """What the store needs: current and next machines, overlays kept for a way back, roles that may grow."""
    roles = [
        Use(digest, f"{record.id.title} (role {role})")
        for record in intent.deployments
        if record.wanted in {Wanted.UP, Wanted.STOPPED}
        for role in sorted(record.digests)
        for digest in sorted(images_of(record.digests, record.platforms, role))
    ]
    back = [
        Use(digest, f"{record.id.title} (what a rollback goes back to)")
        for record in intent.deployments
        if record.rollout is not None
        for good in record.good
        for role in good.digests
        for digest in sorted(images_of(good.digests, good.platforms, role))
    ]
    return (*(use for record in intent.instances for use in _instance_uses(record)), *roles, *back)


def _instance_uses(record: InstanceRecord) -> Iterator[Use]:
    who = said(record.id)
    machines = [(record.machine, who)]
    if record.next is not None:
        machines.append((record.next.machine, f"{who} (its next machine)"))
    if record.kept is not None:
        machines.append((record.kept.machine, f"{who} (its overlay from before, kept for undo-reimage)"))
    for machine, said_as in machines:
        yield from (Use(digest, said_as) for digest in sorted(machine.images))


def said(key: InstanceId) -> str:
    """An instance as people say it: ``hello/web-0``."""
    return key.words


def overlays(host: HostSeen) -> tuple[str, ...]:
    """The overlays in a host's pool, whoever made them."""
    found = ((file, machine_of_volume(file)) for file in sorted(host.volumes))
    return tuple(file for file, machine in found if machine is not None and machine.overlay == file)


def host_uses(hosts: Iterable[HostSeen], bases: Mapping[tuple[str, str], str]) -> tuple[Use, ...]:
    """What hosts need. ``bases``: host and overlay → digest of the image below it, "" where that cannot be told.

    A host that could not be asked may need any image.
    """
    return tuple(use for host in hosts for use in _host_uses(host, bases))


def _host_uses(host: HostSeen, bases: Mapping[tuple[str, str], str]) -> Iterator[Use]:
    if host.problem:
        yield Use("", f"host {host.name} cannot be asked: {host.problem}")
        return
    for file in overlays(host):
        machine, digest = machine_of_volume(file), bases.get((host.name, file), "")
        who = said(machine.instance) if machine is not None else file
        yield Use(digest, f"{who} on host {host.name}" + ("" if digest else ", and its base cannot be told"))


def check_drivers(reference: str, traits: Traits) -> None:
    """Raises UserError for a disc of drivers that nothing would ever read: only a Windows is set up with one."""
    if traits.drivers and traits.os != WINDOWS:
        system = f"its system is {traits.os}" if traits.os else "its disk does not tell its system"
        raise UserError(
            f"{reference} gets no disc of drivers (--drivers): {system}, and only a Windows is set up with one",
            "say --os windows if it is one, else --drivers ''",
        )


def driver_uses(images: Iterable[Image]) -> tuple[Use, ...]:
    """What images need of each other: the disc of drivers that one is set up with."""
    return tuple(
        Use(each.traits.drivers, f"image {each.reference} (its drivers)") for each in images if each.traits.drivers
    )


def users(digest: str, uses: Iterable[Use]) -> tuple[str, ...]:
    """Who needs an image, or may need it; each said once."""
    return tuple(dict.fromkeys(use.who for use in uses if use.digest in {"", digest}))


def lacking(record: DeploymentRecord, images: Iterable[Image]) -> tuple[str, ...]:
    """What the machines of a deployment are to be made of and the repository does not have, in words."""
    there = {image.digest for image in images}
    found = []
    for role in record.service.roles:
        digest = record.digests.get(role.name, "")
        drivers = images_of(record.digests, record.platforms, role.name) - {digest}
        found += [f"{role.image} (role {role.name})"] if digest and digest not in there else []
        found += [f"the disc of drivers {disc} (role {role.name})" for disc in sorted(drivers - there)]
    return tuple(found)


def blockers(image: Image, images: Iterable[Image], uses: Iterable[Use]) -> tuple[str, ...]:
    """What keeps an image's entry from going: its users, unless another entry keeps the same content."""
    known = tuple(images)
    others = [each for each in known if each.digest == image.digest and each.reference != image.reference]
    return () if others else users(image.digest, (*uses, *driver_uses(known)))


def removable(images: Iterable[Image], uses: Iterable[Use]) -> tuple[Image, ...]:
    """What `prune` removes of what nobody needs: images that are leaving, or older than the newest of their name.

    A version that somebody named stays: it was meant to be found again.
    """
    known = tuple(images)
    needs = (*uses, *driver_uses(known))
    newest = {image.name: image.reference for image in sorted(known, key=lambda i: i.added) if not image.leaving}
    free = [image for image in known if not users(image.digest, needs)]
    return tuple(
        image
        for image in free
        if image.leaving or (is_dated(image.version) and newest.get(image.name) != image.reference)
    )
