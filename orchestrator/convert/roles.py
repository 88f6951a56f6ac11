"""One role of a definition and its part of the configuration, as a role of a service file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.convert import leftovers, secrecy
from orchestrator.convert.endpoints import Endpoints
from orchestrator.convert.names import ROOM, Names, as_name, as_secret, computer_name
from orchestrator.convert.pairing import PLUGIN, instances
from orchestrator.convert.report import Draft, Kind, Path_, Place
from orchestrator.convert.setups import SECRETS
from orchestrator.convert.sizes import DEFAULT, memory_text, size_of
from orchestrator.engine.template import escaped

if TYPE_CHECKING:
    from orchestrator.convert.pairing import Pair
    from orchestrator.convert.tree import Element

MIN_DISK_MIB = 128  # of a Windows, as all of Azure's roles are
MAX_INSTANCES = 200
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_ROOTS = {"root", "authroot", "ca"}
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?")


class RoleDraft:
    """Makes one role; ``endpoints`` is there for the rules that speak of them.

    ``computer``: how its computers' names begin, "" where that is the role's own name.
    """

    def __init__(self, pair: Pair, role: Element, name: str, draft: Draft, computer: str = "") -> None:
        self.pair, self.role, self.name, self.draft = pair, role, name, draft
        self.configured = pair.configured(role)
        self.path: Path_ = ("roles", name)
        self.endpoints = Endpoints(pair, role, self.path, draft)
        self.files: list[object] = []
        self.computer = computer

    def note(self, kind: Kind, what: str, text: str, at: Place | None = None) -> None:
        self.draft.note(kind, f"{self.role.get('name')}/{what}", text, at)

    def value(self, image: str) -> dict[str, object]:
        found: dict[str, object] = {"image": image, "instances": self._instances(), "size": self._size()}
        parts = {
            "endpoints": self.endpoints.value,
            "setup": self._setup(),
            "local_storage": self._storage(),
            "upgrade": self._upgrade(),
        }
        self._dropped()
        return found | {key: part for key, part in parts.items() if part}

    def _instances(self) -> int:
        count = instances(self.configured)
        at = self.configured.at if self.configured else self.role.at
        if self.configured is None:
            self.draft.decide((*self.path, "instances"), self.role.get("name"), "how many: there was no .cscfg", at)
        if not 1 <= count <= MAX_INSTANCES:
            text = f"there were {count} instances; a role has 1 to {MAX_INSTANCES}"
            self.draft.decide((*self.path, "instances"), self.role.get("name"), text, at)
        return max(1, min(MAX_INSTANCES, count))

    def _size(self) -> dict[str, object]:
        said = self.role.get("vmsize") or DEFAULT
        known = size_of(said)
        cpus, memory = known or size_of(DEFAULT) or (1, 1792)
        if known is None:
            text = f"there is no size {said!r:.60}; this is {DEFAULT}"
            self.draft.decide((*self.path, "size"), f"{self.role.get('name')}/vmsize", text, self.role.at)
        else:
            self.draft.comment((*self.path, "size"), f"vmsize {said}")
        return {"vcpus": cpus, "memory": memory_text(memory)}

    def _setup(self) -> dict[str, object]:
        settings = self._settings()
        parts = {
            "hostname": self._hostname(),
            "files": self.files,
            "startup_tasks": self._tasks(),
            **self._certificates(),
            "dns": self._dns(),
            "settings": settings,
        }
        return {key: part for key, part in parts.items() if part}

    def _hostname(self) -> str:
        name = self.configured.get("vmName") if self.configured else ""
        if name and not _HOST.fullmatch(name):
            self.note(Kind.DROPPED, "vmName", f"{name!r:.60} is no host name")
            name = ""
        stem = computer_name(name, ROOM) or self.computer
        if stem != name:
            told = f"Windows has 15 letters for a computer's name: {stem}-0, …"
            self.note(Kind.CHANGED, "hostname", told, self.role.at)
        return f"{stem}-{{{{ordinal}}}}" if stem else ""

    def _settings(self) -> dict[str, str]:
        values = self.configured.all("ConfigurationSettings", "Setting") if self.configured else ()
        found: dict[str, str] = {}
        for setting in values:
            name, value = setting.get("name"), setting.get("value")
            if name.startswith(PLUGIN):
                self.note(Kind.DROPPED, name, "belongs to a module of Azure's guest agent", setting.at)
            elif not _SETTING.fullmatch(name):
                why = "its name is not letters, digits, _ . - (or starts with a digit)"
                self.note(Kind.DROPPED, name, why, setting.at)
            elif secrecy.is_secretive(name, value):
                self._secret_setting(setting)
            else:
                found[name] = escaped(value)
        if self.configured is None and (declared := list(self.role.all("ConfigurationSettings", "Setting"))):
            told = ", ".join(setting.get("name") for setting in declared)
            self.draft.decide((*self.path, "image"), f"{self.role.get('name')}/settings", f"setup.settings of {told}")
        return found

    def _secret_setting(self, setting: Element) -> None:
        """A setting is in the instance's settings for everybody there: what may be a secret is a file of its own."""
        name, secret = setting.get("name"), as_secret(self.name, setting.get("name"))
        path = f"{SECRETS}/{name}"
        self.draft.comment((*self.path, "setup", "files", len(self.files)), f"the setting {name}")
        text = f"may be a secret, and is not written into the file: `vmrole secret set {secret}`; it becomes {path}"
        self.note(Kind.SECRET, name, text, setting.at)
        self.files.append({"path": path, "secret": f"store:{secret}", "mode": "0600"})

    def _certificates(self) -> dict[str, list[object]]:
        """Only the thumbprint is in the files: the certificate itself has to be put into the secret store."""
        found: dict[str, list[object]] = {"certificates": [], "trusted_certificates": []}
        names = Names("certificate")
        for element in self.role.all("Certificates", "Certificate"):
            is_root = element.get("storeName").lower() in _ROOTS
            kind = "trusted_certificates" if is_root else "certificates"
            name = names.give(element.get("name"))
            secret = as_secret(self.name, name)
            where = f"{element.get('storeLocation')}/{element.get('storeName')}"
            text = f"certificate {element.get('name')} ({where}{self._thumbprint(element.get('name'))})"
            self.draft.comment((*self.path, "setup", kind, len(found[kind])), text)
            told = f"is not in these files: `vmrole secret set {secret}` takes it (PEM, or PKCS #12 for Windows)"
            self.note(Kind.SECRET, f"certificate {element.get('name')}", told, element.at)
            found[kind].append({"name": name, "secret": f"store:{secret}"})
            if rights := element.get("permissionLevel"):
                why = f"{rights}: the key is for the system's administrators"
                self.note(Kind.DROPPED, f"certificate {element.get('name')}/permissionLevel", why, element.at)
        for given in self.configured.all("Certificates", "Certificate") if self.configured else ():
            if given.get("name").startswith(PLUGIN):
                self.note(Kind.DROPPED, given.get("name"), "belongs to a module of Azure's guest agent", given.at)
        return found

    def _thumbprint(self, name: str) -> str:
        given = self.configured.all("Certificates", "Certificate") if self.configured else ()
        found = next((element for element in given if element.get("name") == name), None)
        return f", {found.get('thumbprintAlgorithm')} {found.get('thumbprint')}" if found else ""

    def _tasks(self) -> list[object]:
        """Tasks that the role waited for. One in the background would never end, and the instance never be ready."""
        found: list[object] = []
        for number, task in enumerate(self.role.all("Startup", "Task"), start=1):
            name = f"startup-{number}"
            command, kind = task.get("commandLine"), task.get("taskType", "simple").lower()
            if kind != "simple" or not command.strip():
                why = f"{kind} task {command!r:.120}: make it a service in the image; a start-up task has to end"
                self.draft.decide((*self.path, "image"), f"{self.role.get('name')}/{name}", why, task.at)
                continue
            here = (*self.path, "setup", "startup_tasks", len(found))
            told = "the files it names were in the role's package: they have to be in the image, or in setup.files"
            self.draft.decide(here, f"{self.role.get('name')}/{name}", told, task.at)
            self._variables(task, here, name)
            if secrecy.in_command(command):
                self.note(Kind.SECRET, name, "the command may hold a secret, and is in the service file", task.at)
            if task.get("executionContext", "limited").lower() == "limited":
                self.note(Kind.CHANGED, name, "runs with all rights: there is no limited context", task.at)
            found.append({"name": name, "run": escaped(command)})
        return found

    def _variables(self, task: Element, here: Path_, name: str) -> None:
        for variable in task.all("Environment", "Variable"):
            origin = variable.first("RoleInstanceValue")
            said = secrecy.shown("value", variable.get("value"), variable)
            value = f"the value at {origin.get('xpath')}" if origin else repr(said)
            self.draft.comment(here, f"it had the variable {variable.get('name')} = {value}")
            text = f"variable {variable.get('name')} is not set: set it in the command, or in the image"
            self.note(Kind.DROPPED, name, text, variable.at)

    def _storage(self) -> dict[str, object]:
        found: dict[str, object] = {}
        names = Names("local")
        for storage in (*self.role.all("LocalResources", "LocalStorage"), *self.role.all("LocalStorage")):
            said = storage.get("sizeInMB") or storage.get("sizeInMb") or "100"
            name, size = names.give(storage.get("name")), max(MIN_DISK_MIB, int(said))
            told = f"is the disk {name} at /mnt/{name}"
            if int(said) < MIN_DISK_MIB:
                told += f", of {MIN_DISK_MIB} MiB: Windows takes none that is smaller"
            is_clean = storage.get("cleanOnRoleRecycle", "true").lower() in {"true", "1"}
            told += "; new and empty after a reimage, but not after a reboot" if is_clean else ""
            self.note(Kind.CHANGED, storage.get("name"), told, storage.at)
            found[name] = {"size": f"{size}MiB", "mount": f"/mnt/{name}", "clean_on_reimage": is_clean}
        return found

    def _dns(self) -> dict[str, object]:
        configuration = self.pair.configuration
        path = ("NetworkConfiguration", "Dns", "DnsServers", "DnsServer")
        servers = [server.get("IPAddress").strip() for server in configuration.all(*path)] if configuration else []
        return {"servers": servers} if servers else {}

    def _upgrade(self) -> dict[str, object]:
        said = self.pair.definition.get("upgradeDomainCount")
        return {"domains": int(said)} if said else {}

    def _dropped(self) -> None:
        for element in (self.role, self.configured):
            if element is not None:
                leftovers.tell(element, leftovers.OF_A_ROLE, self.role.get("name"), self.draft)
        if self.role.get("enableNativeCodeExecution").lower() in {"false", "0"}:
            self.note(Kind.DROPPED, "enableNativeCodeExecution", "there is no partial trust here", self.role.at)
        for startup in self.role.all("Startup"):
            if startup.get("priority"):
                text = f"{startup.get('priority')}: tasks run one after the other, in the order of the file"
                self.note(Kind.DROPPED, "Startup/priority", text, startup.at)

    def image(self, chosen: str, of_family: str) -> str:
        """``chosen`` by an option, else the disk that a VM role names, else a name made of the guest OS family."""
        if chosen:
            return chosen
        found = self.configured.first("OsImage") if self.configured else None
        where = (*self.path, "image")
        if found is not None:
            disk = found.get("href").split("?")[0]  # what comes after it may be a key
            stem = re.split(r"[/\\]", disk)[-1].rsplit(".", 1)[0]
            image = as_name(stem, "image")
            text = f"the image that was {disk}: `vmrole image add {image} FILE.vhd` takes it in"
            self.draft.decide(where, f"{self.role.get('name')}/OsImage", text, found.at)
            return image
        kind = "server with the role's program in it" if self.role.name != "VirtualMachineRole" else "server"
        text = f"the image, a {kind}; it ran on {of_family}"
        self.draft.decide(where, f"{self.role.get('name')}/image", text, self.role.at)
        return of_family
