"""What a changed service file changes, field by field in the file's own words, and what each change costs. Pure.

The table below says it by the field's path; that it says the truth is checked against what makes machines differ.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING

from orchestrator.model.secret import SecretRef
from orchestrator.model.setup import Command, Setup, When
from orchestrator.model.spec import Disk, DiskKind, Endpoint, Platform, Ready, Repair, Role, Stop, Traffic, Visibility

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from _typeshed import DataclassInstance

    from orchestrator.model.record import DeploymentRecord

Path = tuple[str, ...]


class Cost(Enum):
    """What a change is paid with, the least first."""

    NOTHING = "nothing"
    TOLD = "told"
    BALANCER = "reload"
    GROW = "grow"
    COUNT = "instances"
    MACHINE = "machines"


# By the field's path within its role, the longest that fits.
COSTS: Mapping[Path, Cost] = {
    ("image",): Cost.MACHINE,
    ("instances",): Cost.COUNT,
    ("size",): Cost.MACHINE,
    ("endpoints",): Cost.BALANCER,
    ("setup",): Cost.MACHINE,
    ("setup", "settings"): Cost.TOLD,
    ("after",): Cost.NOTHING,
    ("autoscale",): Cost.NOTHING,
    ("egress",): Cost.NOTHING,
    ("ready",): Cost.NOTHING,
    ("local_storage",): Cost.MACHINE,
    ("local_storage", "*", "size"): Cost.GROW,
    ("volumes",): Cost.MACHINE,
    ("volumes", "*", "size"): Cost.GROW,
    ("stop",): Cost.NOTHING,
    ("upgrade",): Cost.NOTHING,
    ("repair",): Cost.NOTHING,
}
# The file's words for what the values call otherwise; "" where the field's own fields stand in its place.
WORDS: Mapping[tuple[type, str], Path] = {
    (Endpoint, "ports"): ("port",),
    (Endpoint, "check_path"): ("check", "path"),
    (Endpoint, "traffic"): (),
    (Traffic, "max_per_instance"): ("max_connections_per_instance",),
    (Traffic, "idle_s"): ("idle_timeout",),
    (Ready, "ssh_user"): ("ssh", "user"),
    (Ready, "ssh_key"): ("ssh", "key"),
    (Stop, "keep_s"): ("keep_overlay",),
    (Repair, "is_on"): (),
    (Disk, "is_clean"): ("clean_on_reimage",),
}
SETUP_WORDS: Mapping[str, Path] = {
    "administrator_password": ("administrator",),
    "ntp_servers": ("ntp",),
    "dns_servers": ("dns", "servers"),
    "dns_search": ("dns", "search"),
    "is_static": ("network",),
    "join": ("domain_join",),
}
COMMANDS = {When.FIRST_BOOT: "run", When.EVERY_BOOT: "run_every_boot", When.START_UP: "startup_tasks"}
DISKS = {DiskKind.LOCAL: "local_storage", DiskKind.VOLUME: "volumes"}
NAMED = {"endpoints", *DISKS.values()}
UNITS = {"size_mib": "MiB", "memory_mib": "MiB", "disk_gib": "GiB"}
# Of these, 0 is what the file says by leaving them out.
UNSET = {"disk_gib", "max_connections", "max_per_instance", "port", "ports"}


@dataclass(frozen=True, slots=True)
class Change:
    """One field: its path in the file, what it ``was`` and ``will_be`` ("" : not there), and what that costs.

    ``costs`` says it in words. What is in ``setup`` is not shown, as passwords may be in it.
    """

    path: str
    was: str
    will_be: str
    cost: Cost
    costs: str


def changes(old: DeploymentRecord, new: DeploymentRecord) -> tuple[Change, ...]:
    """Every field that differs between two revisions of a deployment, in the order of the file."""
    found: list[Change] = [] if old.vip == new.vip else [_vip(old, new)]
    names = [role.name for role in new.service.roles]
    names += [role.name for role in old.service.roles if role.name not in names]
    for name in names:
        found += _role(old, new, name)
    if old.service.traffic != new.service.traffic:
        found.append(_traffic(old, new))
    return tuple(found)


def _traffic(old: DeploymentRecord, new: DeploymentRecord) -> Change:
    said = [
        "; ".join(f"{r.role}.{r.endpoint} from {', '.join(r.sources) or 'nobody'}" for r in record.service.traffic)
        for record in (old, new)
    ]
    costs = "the hosts filter anew; no machine is touched, no connection that stays allowed is cut"
    return Change("traffic", _short(said[0]), _short(said[1]), Cost.NOTHING, costs)


def _vip(old: DeploymentRecord, new: DeploymentRecord) -> Change:
    costs = "HAProxy listens on the new address; the old one goes when nobody is connected to it any more"
    return Change("vip", old.vip, new.vip, Cost.BALANCER, costs)


def _role(old: DeploymentRecord, new: DeploymentRecord, name: str) -> list[Change]:
    before, after = old.service.role(name), new.service.role(name)
    if after is None:
        costs = f"{_instances(old.count(name))} deleted; volumes are kept"
        return [Change(f"roles.{name}", "there", "", Cost.COUNT, costs)]
    if before is None:
        return [Change(f"roles.{name}", "", "new", Cost.COUNT, f"{_instances(new.count(name))} made")]
    was, will_be = dict(_fields(before)), dict(_fields(after))
    was |= {("image",): _image(old, before), ("instances",): str(old.count(name))}
    will_be |= {("image",): _image(new, after), ("instances",): str(new.count(name))}
    paths = [path for path in [*will_be, *(p for p in was if p not in will_be)] if was.get(path) != will_be.get(path)]
    # Of what is new or goes, as a whole, the single fields are not told.
    whole = {path for path in paths if len(path) == 2 and path[0] in NAMED and not (path in was and path in will_be)}
    paths = [path for path in paths if path in whole or path[:2] not in whole]
    return [_change(old, new, after, path, (was.get(path, ""), will_be.get(path, ""))) for path in paths]


def _change(old: DeploymentRecord, new: DeploymentRecord, role: Role, path: Path, values: tuple[str, str]) -> Change:
    cost = _cost(old, new, role, path)
    hidden = (values[0] and "there", values[1] and ("changed" if values[0] else "new"))
    shown = hidden if path[0] == "setup" else (_short(values[0]), _short(values[1]))
    return Change(f"roles.{role.name}.{'.'.join(path)}", *shown, cost, _costs(cost, old, new, role, path))


def _cost(old: DeploymentRecord, new: DeploymentRecord, role: Role, path: Path) -> Cost:
    before = old.service.role(role.name)
    if path == ("image",) and _made_of(old, role.name) == _made_of(new, role.name):
        return Cost.NOTHING  # another name of the same image
    if path[0] == "endpoints" and all(_is_internal(each, path[1]) for each in (before, role) if each is not None):
        cost = Cost.TOLD  # HAProxy has no part in it
    else:
        cost = cost_of(path)
    # Windows' own firewall is set up with the ports that endpoints lead to.
    is_port = path[0] == "endpoints" and before is not None and old.machine(before).ports != new.machine(role).ports
    return Cost.MACHINE if is_port and path[2:] in {(), ("target",)} else cost


def _is_internal(role: Role, name: str) -> bool:
    """Whether a role has no endpoint of this name on the VIP."""
    return all(e.visibility is Visibility.INTERNAL for e in role.endpoints if e.name == name)


def cost_of(path: Path) -> Cost:
    """What the table says of a field of a role. Raises LookupError for one that it does not know."""
    fitting = [
        row for row in COSTS if len(row) <= len(path) and all(a in {"*", b} for a, b in zip(row, path, strict=False))
    ]
    if not fitting:
        raise LookupError(f"no cost is known of {'.'.join(path)}")
    return COSTS[max(fitting, key=len)]


def _costs(cost: Cost, old: DeploymentRecord, new: DeploymentRecord, role: Role, path: Path) -> str:
    fewer = old.count(role.name) - new.count(role.name)
    kept = min(old.count(role.name), new.count(role.name))
    match cost:
        case Cost.NOTHING:
            return "nothing: no machine is touched"
        case Cost.TOLD:
            who = f"{_instances(kept)} {'is' if kept == 1 else 'are'}"
            who = "the deployment's instances are" if path[0] == "endpoints" else who
            return f"{who} told; no machine is touched"
        case Cost.BALANCER:
            return "HAProxy is told; no machine is touched, no other connection is cut"
        case Cost.GROW:
            return f"the disk grows on {_instances(kept)}, which stay{'s' if kept == 1 else ''} as they are"
        case Cost.COUNT:
            return f"{_instances(fewer)} deleted; volumes are kept" if fewer > 0 else f"{_instances(-fewer)} more"
        case Cost.MACHINE:
            return _machines(kept, role, new.count(role.name))


def _machines(count: int, role: Role, wanted: int) -> str:
    domains, extra = min(count, role.upgrade.domains), role.upgrade.surge(wanted)
    gets = "gets" if count == 1 else "get"
    way = "1 upgrade domain" if domains == 1 else f"{domains} upgrade domains"
    more = f", {extra} extra {'instance stands' if extra == 1 else 'instances stand'} in" if extra else ""
    return f"{_instances(count)} {gets} a new machine: {way}, at most {role.upgrade.away(wanted)} away at once{more}"


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"


def _image(record: DeploymentRecord, role: Role) -> str:
    return f"{role.image} ({record.digests.get(role.name, '')[:19]}{_traits(_made_of(record, role.name)[1])})"


def _made_of(record: DeploymentRecord, role: str) -> tuple[str, Platform]:
    return record.digests.get(role, ""), record.platforms.get(role, Platform())


def _traits(platform: Platform) -> str:
    """What an image has its machines be like, where that is not the usual: `image set` may have changed it."""
    found = [(field.name, getattr(platform, field.name), field.default) for field in fields(platform)]
    said = [f"{name.replace('_', ' ')} {_text(value)[:19]}" for name, value, usual in found if value != usual]
    return "".join(f", {text}" for text in said)


def _fields(role: Role) -> Iterator[tuple[Path, str]]:
    """Each leaf of a role by its path in the file, but its name."""
    for field in fields(role):
        value = getattr(role, field.name)
        if field.name == "setup":
            yield from _setup(value)
        elif field.name == "disks":
            for disk in value:
                yield from _named((DISKS[disk.kind], disk.name), disk)
        elif field.name == "endpoints":
            for endpoint in value:
                yield from _named(("endpoints", endpoint.name), endpoint)
        elif field.name not in {"name", "image", "instances"}:
            yield from _leaves((_word(Role, field.name)), value)


def _named(path: Path, thing: Disk | Endpoint) -> Iterator[tuple[Path, str]]:
    """The leaves of something that has a name in the file; its path alone says that it is there."""
    yield path, "there"
    yield from _own(path, thing, without={"name", "kind", "last_target"})


def _own(path: Path, thing: DataclassInstance, without: Collection[str] = ()) -> Iterator[tuple[Path, str]]:
    for field in fields(thing):
        if field.name not in without:
            value = _value(thing, field.name)
            unit = f" {UNITS[field.name]}" if field.name in UNITS and value is not None else ""
            yield from _leaves((*path, *_word(type(thing), field.name)), value, unit)


def _value(thing: DataclassInstance, name: str) -> object:
    """A field as the file has it; None for what is left out there."""
    match thing, name:
        case Endpoint(), "target":
            return thing.targets  # a range is one field there
        case Repair(), "is_on":
            return "on" if thing.is_on else "off"
        case _:
            value = getattr(thing, name)
            return None if name in UNSET and value in {0, (0, 0)} else value


def _leaves(path: Path, value: object, unit: str = "") -> Iterator[tuple[Path, str]]:
    if is_dataclass(value) and not isinstance(value, type | SecretRef) and not _is_leaf(value):
        yield from _own(path, value)
    else:
        yield path, f"{_text(value)}{unit}"


def _is_leaf(value: object) -> bool:
    """Whether a value is one in the file, too: it says of itself how it is written."""
    return type(value).__str__ is not object.__str__


def _setup(setup: Setup) -> Iterator[tuple[Path, str]]:
    for field in fields(setup):
        value = getattr(setup, field.name)
        if field.name == "commands":
            yield from _commands(value)
        elif field.name == "settings":
            yield from ((("setup", "settings", key), text) for key, text in value)
        elif field.name == "certificates":
            for word, is_root in (("certificates", False), ("trusted_certificates", True)):
                yield ("setup", word), repr([each for each in value if each.is_root is is_root])
        elif field.name == "user_data":
            yield ("setup", "user_data"), repr((value, setup.user_parts))
        elif field.name != "user_parts":
            yield ("setup", *SETUP_WORDS.get(field.name, (field.name,))), repr(value)


def _commands(commands: tuple[Command, ...]) -> Iterator[tuple[Path, str]]:
    for when, word in COMMANDS.items():
        yield ("setup", word), repr([command for command in commands if command.when is when])


def _word(kind: type, name: str) -> Path:
    if (kind, name) in WORDS:
        return WORDS[kind, name]
    for unit in ("_s", "_mib", "_gib"):
        name = name.removesuffix(unit)
    return (name.removeprefix("is_"),)


def _text(value: object) -> str:  # noqa: PLR0911 - one line a kind of value
    match value:
        case None | () | "":
            return "not set"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g} s"
        case Enum():
            return str(value.value)
        case SecretRef():
            return f"secret: {value.source}"
        case (int(first), int(last)):
            return f"{first}" if first == last else f"{first}-{last}"
        case tuple():
            return ", ".join(getattr(item, "name", None) or str(item) for item in value)
        case _:
            return str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
