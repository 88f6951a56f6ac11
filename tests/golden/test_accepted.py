"""What is rendered is taken by the programs that it is for."""

import re
import subprocess
from pathlib import Path

import libvirt
import pytest

from orchestrator.render import haproxy

from .rendered import RENDERED

pytestmark = pytest.mark.real
SCHEMAS = {"domain": "domain", "network": "network", "pool": "storagepool", "volume": "storagevol"}
XML = [name for name in RENDERED if name.endswith(".xml")]


def run(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("name", XML)
def test_libvirts_schema(name, tmp_path):
    path = tmp_path / name
    path.write_text(RENDERED[name]())
    schema = SCHEMAS[re.split(r"[-.]", name)[0]]
    done = run("virt-xml-validate", str(path), schema)
    assert done.returncode == 0, done.stdout + done.stderr


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
    done = run("haproxy", "-c", "-f", str(path))
    assert done.returncode == 0, done.stderr
    assert "[WARNING]" not in done.stderr
    assert haproxy.saved_fingerprint(path.read_text()) != ""


def test_cloud_inits_own_reader_takes_the_user_data(tmp_path: Path):
    """PyYAML is what cloud-init reads with."""
    import yaml

    for name in ("meta-data", "user-data", "network-config"):
        assert isinstance(yaml.safe_load(RENDERED[name]()), dict)
