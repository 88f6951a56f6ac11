"""Carries out actions: one exhaustive match, from each value to the port that has the effect. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from orchestrator.engine import runtime, template
from orchestrator.model import action as act
from orchestrator.model.spec import WINDOWS
from orchestrator.render import cloudinit, records, unattend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.model.secret import SecretRef
    from orchestrator.ports import Balancer, Board, Guests, Host, Images, Progress, Secrets, Seeds, Store


@dataclass(frozen=True, slots=True)
class Effects:
    """The ports that have effects. ``report`` is told of what takes long."""

    hosts: Mapping[str, Host]
    guests: Guests
    balancer: Balancer
    images: Images
    seeds: Seeds
    store: Store
    report: Progress
    secrets: Secrets
    board: Board

    def reveal(self, ref: SecretRef) -> bytes:
        """A secret's value, for an answer file."""
        return self.secrets.reveal(ref).reveal()


HostAction = (
    act.CreatePool | act.DeletePool | act.PlaceImage | act.CreateNetwork | act.ChangeLeases | act.DeleteNetwork
    | act.CreateOverlay | act.CreateSeed | act.CreateDisk | act.GrowDisk | act.MoveVolume | act.SaveCopy
    | act.DefineDomain | act.EjectSeed | act.StartDomain | act.ShutDown | act.RestartServices | act.Tell
    | act.DestroyDomain | act.ResumeDomain | act.UndefineDomain | act.DeleteVolume
    | act.DefineFilter | act.DeleteFilter | act.PlugFilter
)  # fmt: skip
StoreAction = act.SaveInstance | act.SaveDeployment | act.ForgetInstance | act.ForgetDeployment
BalancerAction = (
    act.ConfigureBalancer | act.SaveServers | act.Route | act.StopBalancer | act.SetFirewall
    | act.AddVip | act.RemoveVip
    | act.AddServer | act.DrainServer | act.RemoveServer
)  # fmt: skip


def apply(action: act.Action, to: Effects) -> None:
    """Have one effect. Raises whatever the port raises; an action that raised may be applied again."""
    if isinstance(action, HostAction):
        _apply_to_host(action, to.hosts[action.host], to)
    elif isinstance(action, StoreAction):
        _apply_to_store(action, to.store)
    else:
        _apply_to_balancer(action, to.balancer)


def _apply_to_host(action: HostAction, host: Host, to: Effects) -> None:  # noqa: C901, PLR0912, PLR0915 - one case an action
    match action:
        case act.CreatePool():
            host.create_pool()
        case act.DeletePool():
            host.delete_pool()
        case act.PlaceImage():
            host.place_image(action.digest, to.images.blob(action.digest), to.report)
        case act.CreateNetwork():
            wish = action.deployment, action.subnet, action.leases, action.names
            host.create_network(*wish, isolated=action.isolated)
        case act.ChangeLeases():
            host.change_leases(action.network, action.leases, action.names)
        case act.DeleteNetwork():
            host.delete_network(action.network)
        case act.CreateOverlay():
            host.create_overlay(action.machine, action.digest, action.size_bytes)
        case act.CreateSeed():
            host.create_seed(action.machine, to.seeds.disc(*_seed(action, to.reveal)))
        case act.CreateDisk():
            host.create_disk(action.file, action.size_bytes)
        case act.GrowDisk():
            _grow(action, host, to.guests)
        case act.MoveVolume():
            _move(action, to.hosts[action.source], host, to.report)
        case act.SaveCopy():
            host.put_copy(action.record.copy, records.dump_deployment(action.record.as_copied()))
        case act.DefineDomain():
            host.define_domain(action.machine, action.spec, action.place, has_seed=action.has_seed)
        case act.DefineFilter():
            host.define_filter(action.guard)
        case act.DeleteFilter():
            host.delete_filter(action.name)
        case act.PlugFilter():
            host.plug_filter(action.machine)
        case act.EjectSeed():
            host.eject_seed(action.machine)
        case act.StartDomain():
            host.start_domain(action.machine)
        case act.ShutDown():
            to.guests.shut_down(host, action.machine, action.act)
        case act.RestartServices():
            to.guests.restart(host, action.machine, action.services, system=action.system)
        case act.Tell():
            to.guests.tell(host, action.machine, action.text, dip=action.dip, ready=action.ready, system=action.system)
        case act.DestroyDomain():
            host.destroy_domain(action.domain)
        case act.ResumeDomain():
            host.resume_domain(action.domain)
        case act.UndefineDomain():
            host.undefine_domain(action.domain)
        case act.DeleteVolume():
            host.delete_volume(action.volume)
        case _:
            assert_never(action)


def _seed(action: act.CreateSeed, reveal: Callable[[SecretRef], bytes]) -> tuple[str, dict[str, bytes]]:
    """The label and the files of an instance's answer disc."""
    record, around = action.record, action.around
    if record.machine.platform.os != WINDOWS:
        return cloudinit.LABEL, cloudinit.seed(record, around, reveal).files()
    filled = replace(record.machine, setup=template.filled(record.machine.setup, template.values(record, around)))
    told = runtime.document(record, around)
    return unattend.LABEL, unattend.seed(replace(record, machine=filled), told, reveal, around.subnet(record.host))


def _grow(action: act.GrowDisk, host: Host, guests: Guests) -> None:
    host.grow_disk(action.file, action.size_bytes, action.machine.domain if action.machine is not None else "")
    if action.machine is not None:
        guests.grow(host, action.machine, action.disk, system=action.system)


def _move(action: act.MoveVolume, source: Host, host: Host, report: Progress) -> None:
    with source.export_volume(action.volume.file) as pieces:
        host.import_volume(action.volume, action.size_bytes, pieces, report)


def _apply_to_store(action: StoreAction, store: Store) -> None:
    match action:
        case act.SaveInstance():
            store.save_instance(action.record, action.event)
        case act.SaveDeployment():
            store.save_deployment(action.record, action.event)
        case act.ForgetInstance():
            store.forget_instance(action.id, action.event)
        case act.ForgetDeployment():
            store.forget_deployment(action.id, action.event)
        case _:
            assert_never(action)


def _apply_to_balancer(action: BalancerAction, balancer: Balancer) -> None:  # noqa: C901, PLR0912 - one case an action
    match action:
        case act.ConfigureBalancer():
            balancer.configure(action.frontends, action.servers)
        case act.SaveServers():
            balancer.save(action.frontends, action.servers)
        case act.Route():
            balancer.route(action.frontends)
        case act.StopBalancer():
            balancer.stop()
        case act.SetFirewall():
            balancer.set_firewall(action.firewall)
        case act.AddVip():
            balancer.add_vip(action.vip)
        case act.RemoveVip():
            balancer.remove_vip(action.vip)
        case act.AddServer():
            balancer.add_server(action.server, action.frontend)
        case act.DrainServer():
            balancer.drain_server(action.backend, action.name)
        case act.RemoveServer():
            balancer.remove_server(action.backend, action.name)
        case _:
            assert_never(action)
