"""What is rendered is taken by the programs that it is for."""

import re
import subprocess
from pathlib import Path

import libvirt
import pytest
import yaml
from lxml import etree

from orchestrator.render import haproxy

from .rendered import RENDERED

pytestmark = pytest.mark.real
FOLDER = Path("/usr/share/libvirt/schemas")
SCHEMAS = {"domain": "domain", "network": "network", "pool": "storagepool", "volume": "storagevol"}
XML = [name for name in RENDERED if name.endswith(".xml") and re.split(r"[-.]", name)[0] in SCHEMAS]


def run(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("name", XML)
def test_libvirts_schema(name):
    """As virt-xml-validate does, which needs xmllint for it."""
    schema = etree.RelaxNG(file=str(FOLDER / f"{SCHEMAS[re.split(r'[-.]', name)[0]]}.rng"))
    schema.assertValid(etree.fromstring(RENDERED[name]()))
    broken = etree.fromstring(RENDERED[name]())
    etree.SubElement(broken, "nonsense")
    assert not schema.validate(broken)


@pytest.mark.parametrize("name", XML)
def test_libvirt_itself(name):
    connection = libvirt.open("test:///default")
    define = {
        "domain": lambda xml: connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE),
        "network": lambda xml: connection.networkDefineXMLFlags(xml, libvirt.VIR_NETWORK_DEFINE_VALIDATE),
        "pool": lambda xml: connection.storagePoolDefineXML(xml, 0),
        "volume": lambda xml: connection.storagePoolLookupByName("default-pool").createXML(xml),
    }[re.split(r"[-.]", name)[0]]
    try:
        made = define(RENDERED[name]())
        assert made.name() in RENDERED[name]()
        (made.delete if name.startswith("volume") else made.undefine)()
    finally:
        connection.close()


def test_haproxy(tmp_path: Path):
    path = tmp_path / "haproxy.cfg"
    path.write_text(RENDERED["haproxy.cfg"]())
    (tmp_path / haproxy.ROUTES).touch()
    done = run("haproxy", "-c", "-C", str(tmp_path), "-f", str(path))
    assert done.returncode == 0, done.stderr
    assert "[WARNING]" not in done.stderr
    assert haproxy.saved_fingerprint(path.read_text()) != ""


@pytest.mark.parametrize(
    "name", ["meta-data", "user-data", "user-data-full", "network-config", "network-config-static"]
)
def test_the_reader_that_cloud_init_uses(name):
    assert isinstance(yaml.safe_load(RENDERED[name]()), dict)


@pytest.mark.parametrize("name", ["runner.sh", "vendor-data"])
@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "sh"]], ids=lambda shell: shell[0])
def test_the_shells_that_guests_have(name, shell, tmp_path: Path):
    path = tmp_path / "script"
    path.write_text(RENDERED[name]())
    done = run(*shell, "-n", str(path))
    assert (done.returncode, done.stderr) == (0, "")
