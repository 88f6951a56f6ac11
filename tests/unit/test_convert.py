"""What is wrong in a file is told with line and column, all at once; what is told apart, and what is never written."""

import contextlib
import gzip
import json
import time

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from orchestrator.cli import root
from orchestrator.config.servicefile import parse
from orchestrator.convert.files import MAX_BYTES, Given, Wishes, convert
from orchestrator.convert.names import Names, as_name
from orchestrator.convert.secrecy import in_command
from orchestrator.convert.sizes import _CLASSIC, _GIB, memory_text, size_of
from orchestrator.convert.yamltext import written
from orchestrator.engine.template import escaped
from orchestrator.errors import InvalidInput, UserError
from orchestrator.model.names import is_name, parse_instance_name
from tests.golden.convert_pairs import FOLDER

CSCFG = '<ServiceConfiguration serviceName="s">\n<Role name="r"><Instances count="2"/></Role>\n</ServiceConfiguration>'


def csdef(inside: str) -> str:
    return f'<ServiceDefinition name="s">\n<WorkerRole name="r">\n{inside}\n</WorkerRole>\n</ServiceDefinition>'


NO_WISHES = Wishes()


def made(*texts: str, wishes: Wishes = NO_WISHES):
    return convert([Given(f"file{n}", text.encode()) for n, text in enumerate(texts)], wishes)


def problems(*texts: str) -> list[tuple[str, int, int, str]]:
    with pytest.raises(InvalidInput) as caught:
        made(*texts)
    return [(p.path, p.line, p.column, p.message) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("inside", "line", "column", "told"),
    [
        ("<Endpoints><InputEndpoint name='a' protocol='tcp'/></Endpoints>", 3, 12, "needs the attribute port"),
        ("<Endpoints><InputEndpoint name='a' protocol='tcp' port='x'/></Endpoints>", 3, 12, "must be a port"),
        ("<Endpoints><InputEndpoint name='a' protocol='tcp' port='65536'/></Endpoints>", 3, 12, "must be a port"),
        ("<Endpoints><InputEndpoint name='a' protocol='ftp' port='1'/></Endpoints>", 3, 12, "must be one of http"),
        ("<Endpoints><InputEndpoint name='a' protocol='https' port='1'/></Endpoints>", 3, 12, "certificate"),
        ("<Endpoints>\n<InputEndpoint name='a' protocol='tcp' port='1' loadBalancerProbe='p'/></Endpoints>",
         4, 1, "'p'"),
        ("<Endpoints>\n<InputEndpoint name='a' protocol='tcp' port='1' localPort=''/></Endpoints>",
         4, 1, "must be a port"),
        ("<Endpoints>\n <InternalEndpoint name='a' protocol='tcp'>\n  <FixedPortRange min='9' max='8'/>\n"
         " </InternalEndpoint></Endpoints>", 5, 3, "ends before it begins"),
        ("  <Nonsense/>", 3, 3, "cannot be in <WorkerRole>"),
        ("  <Sites/>", 3, 3, "cannot be in <WorkerRole>"),
        ("<LocalStorage name='a' sizeInMB='0'/>", 3, 1, "whole number, 1 to"),
        ("<LocalStorage name='a' sizeInMB='99999999999'/>", 3, 1, "whole number, 1 to"),
        ("<LocalStorage name='a' cleanOnRoleRecycle='maybe'/>", 3, 1, "true or false"),
        ("<LocalStorage name='a' colour='red'/>", 3, 1, "has no attribute 'colour'"),
        ("<LocalStorage name='a'/>\n<LocalStorage name='A'/>", 4, 1, "is there already, in line 3"),
        ("<Imports/>\n <Imports/>", 4, 2, "a second <Imports>"),
        ("words", 2, 1, "has a text"),
        ("<x:Imports xmlns:x='urn:other'/>", 3, 1, "not in Azure's"),
        ("<x:Imports xmlns:x='http://schemas.microsoft.com/ServiceHosting/2008/10/ServiceConfiguration'/>", 3, 1,
         "not in Azure's for a ServiceDefinition"),
        ("<ConfigurationSettings>\n <Setting name='A'/></ConfigurationSettings>", 4, 2, "has no value in file1"),
        ("<Endpoints><InstanceInputEndpoint name='a' protocol='tcp' localPort='1'>\n<AllocatePublicPortFrom>"
         "<FixedPortRange min='5' max='5'/></AllocatePublicPortFrom></InstanceInputEndpoint></Endpoints>",
         3, 12, "has 1 ports for 2 instances"),
        ("<Endpoints><InputEndpoint name='a' protocol='tcp' port='1'/>\n"
         "<InputEndpoint name='b' protocol='http' port='1'/>"
         "</Endpoints>", 4, 1, "port 1 is given twice"),
        ("<Endpoints>\n<InternalEndpoint name='a' protocol='any'><FixedPort port='9'/></InternalEndpoint>\n"
         "<InternalEndpoint name='b' protocol='udp'><FixedPortRange min='8' max='10'/></InternalEndpoint></Endpoints>",
         5, 1, "port 9 is given twice: endpoint 'a'"),
        ("<Endpoints>\n<InternalEndpoint name='a' protocol='tcp' port='8'><FixedPort port='9'/></InternalEndpoint>"
         "</Endpoints>", 4, 1, "says its port twice"),
        ("<Endpoints>\n<InputEndpoint name='a' protocol='tcp' port='1' loadBalancer='x'/></Endpoints>",
         4, 1, "there is no <LoadBalancer> 'x' in file1"),
        ("<Endpoints>\n<InputEndpoint name='a' protocol='tcp' port='1' idleTimeoutInMinutes='3'/></Endpoints>",
         4, 1, "4 to 30"),
        ("<InputEndpoints>\n<InputEndpoint name='a' protocol='tcp' port='1' loadBalancerProbe='p'/></InputEndpoints>",
         4, 1, "'p'"),
        ("</WorkerRole><NetworkTrafficRules>\n<OnlyAllowTrafficTo><Destinations/></OnlyAllowTrafficTo>"
         "</NetworkTrafficRules><WorkerRole name='q'>", 4, 1, "needs <AllowAllTraffic> or <WhenSource>"),
    ],
)  # fmt: skip
def test_a_problem_has_its_place(inside, line, column, told):
    found = problems(csdef(inside), CSCFG)
    assert any((at, col) == (line, column) and told in text for _file, at, col, text in found), found


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ("<EndpointAcls><EndpointAcl role='r' endpoint='e' accessControl='a'/></EndpointAcls>", "has no endpoint 'e'"),
        (
            "<EndpointAcls><EndpointAcl role='r' endpoint='e' accessControl='a'/></EndpointAcls>",
            "no <AccessControl> 'a'",
        ),
        ("<EndpointAcls><EndpointAcl role='r' accessControl='a'/></EndpointAcls>", "needs the attribute endpoint"),
        ("<AddressAssignments><InstanceAddress roleName='q'/></AddressAssignments>", "there is no role 'q'"),
        ("<Dns><DnsServers><DnsServer name='a' IPAddress='10.0.0.256'/></DnsServers></Dns>", "must be an IPv4 address"),
        ("<LoadBalancers><LoadBalancer name='a'/></LoadBalancers>", "needs <FrontendIPConfiguration> in it"),
    ],
)
def test_what_is_wrong_in_a_network_has_its_place(network, told):
    end = "</ServiceConfiguration>"
    found = problems(csdef(""), CSCFG.replace(end, f"<NetworkConfiguration>{network}</NetworkConfiguration>{end}"))
    assert any((file, line) == ("file1", 3) and told in text for file, line, _column, text in found), found


def test_every_problem_of_both_files_is_told_at_once():
    configuration = '<ServiceConfiguration serviceName="other">\n<Role name="q"/>\n</ServiceConfiguration>'
    found = problems(csdef("<Nonsense/>"), configuration)
    assert [(file, line, column) for file, line, column, _text in found] == [
        ("file0", 2, 1), ("file0", 3, 1), ("file1", 1, 1), ("file1", 2, 1), ("file1", 2, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('<ServiceDefinition name="a">\n  <WebRole', 2, 3),
        ('<ServiceDefinition name="a">\n  </WebRole>', 2, 5),
        ("<ServiceDefinition>\n&nothing;</ServiceDefinition>", 2, 1),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>\n<ServiceDefinition/>', 1, 13),
        ("<other/>", 1, 1),
        ('<?xml version="1.0" encoding="nonsense"?>\n<ServiceDefinition/>', 1, 31),
    ],
)
def test_what_is_no_such_xml_is_told_with_its_place(text, line, column):
    assert [found[1:3] for found in problems(text)] == [(line, column)]


def test_a_pit_of_elements_is_refused():
    assert "nested too deeply" in problems("<ServiceDefinition>" + "<a>" * 100_000)[0][3]


@pytest.mark.parametrize(
    "inside",
    [
        "<a/>" * 20_000,
        ("x" * 100 + "<a/>") * 9_000,
        "".join(f"<WorkerRole name='w.{n}'/>" for n in range(9_000)),
        "<WorkerRole name='w'><Endpoints>" + "".join(
            f"<InternalEndpoint name='{n}' protocol='tcp'/>" for n in range(3_000)) + "</Endpoints></WorkerRole>",
    ],
    ids=["elements", "texts", "roles", "endpoints"],
)  # fmt: skip
def test_a_huge_file_takes_no_long_time(inside):
    began = time.process_time()
    with contextlib.suppress(UserError):
        made(f"<ServiceDefinition name='a'>{inside}</ServiceDefinition>")
    assert time.process_time() - began < 20


@pytest.mark.parametrize("texts", [[CSCFG], [csdef(""), csdef("")], ["service: a"], [""], ["<a/>" + " " * MAX_BYTES]])
def test_a_wrong_set_of_files_is_refused(texts):
    with pytest.raises(UserError):
        made(*texts)


def test_a_definition_alone_leaves_the_count_to_a_person():
    found = made(csdef("<ConfigurationSettings><Setting name='A'/></ConfigurationSettings>"))
    assert found.value["roles"]["r"]["instances"] == 1
    assert "# decide: how many" in found.text
    assert "setup.settings of A" in found.text


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ExtraSmall", (1, 768)), ("Small", (1, 1792)), ("Medium", (2, 3584)), ("Large", (4, 7168)),
        ("ExtraLarge", (8, 14336)), ("A7", (8, 57344)), ("Standard_D2", (2, 7168)), ("standard_d14_V2", (16, 114688)),
        ("Basic_A1", (1, 1792)), ("Standard_DS14", (16, 114688)), ("Standard_DS3_v2_Promo", (4, 14336)),
        ("Standard_D4s_v3", (4, 16384)), ("A11", (16, 114688)), ("Gigantic", None), ("s", None), ("", None),
    ],
)  # fmt: skip
def test_sizes_are_those_of_the_documentation(name, size):
    assert size_of(name) == size


@pytest.mark.parametrize("name", sorted({*_CLASSIC, *_GIB}))
def test_up_takes_every_size(name):
    text = f"<ServiceDefinition name='s'><WorkerRole name='r' vmsize='{name}'/></ServiceDefinition>"
    (role,) = parse(made(text).text, "f").roles
    assert (role.size.vcpus, role.size.memory_mib) == size_of(name)


def test_a_probe_slower_than_any_check_is_told():
    probe = "<LoadBalancerProbe name='p' protocol='tcp' intervalInSeconds='9999' timeoutInSeconds='99999'/>"
    endpoint = "<Endpoints><InputEndpoint name='e' protocol='tcp' port='1' loadBalancerProbe='p'/></Endpoints>"
    text = csdef(endpoint).replace("<WorkerRole", f"<LoadBalancerProbes>{probe}</LoadBalancerProbes><WorkerRole")
    assert any("probe p" in str(note) and "3600s" in str(note) for note in made(text).notes)


def test_a_guess_at_a_port_is_none_that_the_role_has():
    ranges = "<InternalEndpoint name='b' protocol='tcp'><FixedPortRange min='20000' max='20009'/></InternalEndpoint>"
    inside = f"<Endpoints><InternalEndpoint name='a' protocol='tcp'/>{ranges}</Endpoints>"
    assert made(csdef(inside), CSCFG).value["roles"]["r"]["endpoints"]["a"]["target"] == 20010


def test_memory_is_written_as_people_write_it():
    assert [memory_text(mib) for mib in (768, 1024, 1792, 14336)] == ["768MiB", "1GiB", "1792MiB", "14GiB"]


def test_an_answer_file_beside_a_pair_joins_its_lists():
    definition = csdef("<ConfigurationSettings><Setting name='Password'/></ConfigurationSettings>")
    setting = "<ConfigurationSettings><Setting name='Password' value='x'/></ConfigurationSettings>"
    config = "#cloud-config\nfqdn: a.b\nwrite_files: [{path: /a, content: b}]\n"
    configuration = CSCFG.replace('<Role name="r">', '<Role name="r" vmName="box">')
    found = made(definition, configuration.replace("</Role>", f"{setting}</Role>"), config)
    (role,) = parse(found.text, "f").roles
    assert [file.path for file in role.setup.files] == ["/etc/vmrole/secrets/Password", "/a"]
    assert role.setup.hostname == "box-{{ordinal}}"
    assert any("hostname" in str(note) and note.kind.value == "dropped" for note in found.notes)


def test_an_image_is_chosen_by_role_or_for_all():
    found = made(csdef(""), CSCFG, wishes=Wishes(images={"r": "web:1.4"}))
    assert found.value["roles"]["r"]["image"] == "web:1.4"
    assert made(csdef(""), CSCFG, wishes=Wishes(images={"": "all"})).value["roles"]["r"]["image"] == "all"
    with pytest.raises(UserError, match="no role x"):
        made(csdef(""), CSCFG, wishes=Wishes(images={"x": "web"}))


@pytest.mark.parametrize("name", ["alone-unattend.xml", "alone-cloud-config"])
def test_no_password_is_ever_written(name):
    found = convert([Given(name, (FOLDER / name).read_bytes())], Wishes())
    everything = found.text + json.dumps(found.value) + "".join(map(str, found.notes))
    assert "hunter2" not in everything
    assert "aAB1AG4AdABlAHIAMgA" not in everything
    assert "EEEEE" not in everything


def test_what_is_passed_through_is_still_an_answer_file():
    (role,) = parse(convert([Given("u", (FOLDER / "alone-unattend.xml").read_bytes())], Wishes()).text, "f").roles
    left = etree.fromstring(role.setup.unattend)
    names = {found.tag.split("}")[1] for found in left.iter()}
    assert names >= {"RegisteredOwner", "OOBE", "UILanguage"}
    assert not names & {"Password", "ProductKey", "ComputerName", "FirstLogonCommands", "AutoLogon"}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("#cloud-config\na: [1\nb: 2", 3, 2), ("#cloud-config\n\ta: 1", 2, 1), ("#cloud-config\n- a", 1, 1),
        ("#cloud-config\na: &a [*a]", 1, 1), ("#cloud-config\na: !!python/name:os.system x", 2, 4),
    ],
)  # fmt: skip
def test_a_wrong_cloud_config_has_its_place(text, line, column):
    assert [found[1:3] for found in problems(text)] == [(line, column)]


def test_two_secrets_never_have_one_name():
    files = "".join(f"- {{path: {path}, content: 'password=x'}}\n" for path in ("/a/b", "/a-b", "/a/b"))
    (role,) = parse(made(f"#cloud-config\nwrite_files:\n{files}").text, "f").roles
    assert [file.content.source for file in role.setup.files] == [
        "store:web-file-a-b", "store:web-file-a-b-2", "store:web-file-a-b"
    ]  # fmt: skip


def test_compressed_user_data_is_unpacked_as_cloud_init_does():
    packed = gzip.compress(b"#cloud-config\ntimezone: Etc/UTC\n")
    (role,) = parse(convert([Given("f", packed)], Wishes()).text, "f").roles
    assert role.setup.timezone == "Etc/UTC"
    for wrong in (b"\x1f\x8bnonsense", gzip.compress(b"#cloud-config\n" + b" " * MAX_BYTES * 20)):
        with pytest.raises(UserError):
            convert([Given("f", wrong)], Wishes())


@pytest.mark.parametrize("text", ["#cloud-config-archive\n- 1\n", "#cloud-config-archive\n- '#cloud-config-archive'\n"])
def test_an_archive_of_what_is_no_text_is_told(text):
    assert "item 1" in problems(text)[0][3]


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"))
XML_TEXT = st.text(st.one_of(st.sampled_from("\n\t {}:#-'\"|>&*!%@`\\\u2028\u0085\ufeff"), st.characters(
    codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")))  # fmt: skip


def quoted(text: str) -> str:
    element = etree.Element("a")
    element.set("b", text)
    return etree.tostring(element, encoding="unicode").removeprefix("<a b").removesuffix("/>")


@settings(max_examples=60, deadline=None)
@given(XML_TEXT)
def test_a_setting_keeps_every_letter(value):
    definition = csdef("<ConfigurationSettings><Setting name='A'/></ConfigurationSettings>")
    setting = f"<ConfigurationSettings><Setting name='A' value{quoted(value)}/></ConfigurationSettings>"
    found = made(definition, CSCFG.replace("</Role>", f"{setting}</Role>"))
    (role,) = parse(found.text, "f").roles
    assert dict(role.setup.settings)["A"].replace("{{{{", "{{") == value


@settings(max_examples=60, deadline=None)
@given(XML_TEXT)
def test_a_cloud_config_keeps_every_letter(text):
    """In a file, in a command's word, and in what is passed through; one that looks like a secret is kept out."""
    config = {"write_files": [{"path": "/a", "content": text}], "runcmd": [["echo", text]], "x": {"y": [text, 1]}}
    (role,) = parse(made("#cloud-config\n" + yaml.safe_dump(config)).text, "f").roles
    setup = role.setup
    if in_command(text):
        return
    assert setup.files[0].content == text
    assert setup.commands[0].words == ("echo", escaped(text))
    assert json.loads(setup.user_data) == {"x": {"y": [escaped(text), 1]}}


@settings(max_examples=60, deadline=None)
@given(TEXT.filter(str.strip))
def test_any_name_becomes_a_name_or_is_told(name):
    role = f"<WebRole name{quoted(name)}><LocalStorage name{quoted(name)}/></WebRole>"
    text = f"<ServiceDefinition name{quoted(name)}>{role}</ServiceDefinition>"
    service = parse(made(text).text, "f")
    assert is_name(service.name)
    assert is_name(service.roles[0].name)
    assert is_name(service.roles[0].disks[0].name)


@given(st.lists(st.text(max_size=60), max_size=30))
def test_no_name_is_given_twice(texts):
    names = Names("other")
    given_ = [names.give(text) for text in texts]
    assert len(set(given_)) == len(given_)
    assert all(is_name(name) for name in given_)
    assert is_name(as_name("", "other"))


@given(st.lists(st.sampled_from(["web", "Web-0", "web-0", "web-1", "WEB", "web-r2", "web-0-1"]), max_size=9))
def test_no_role_is_called_as_an_instance_of_another(texts):
    names = Names("role", are_roles=True)
    given_ = [names.give(text) for text in texts]
    assert len(set(given_)) == len(given_)
    instances = {found[0] for name in given_ if (found := parse_instance_name(name)) is not None}
    assert instances.isdisjoint(given_)


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(exclude_categories=("Cs",)))),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=9), VALUE, max_size=5), st.text())
def test_what_is_written_is_read_back(value, comment):
    comments = {(key,): [comment] for key in value}
    assert yaml.safe_load(written(value, comments)) == (value or None)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=300), st.sampled_from([b"", b"<ServiceDefinition ", b"<unattend>", b"#cloud-config\n", b"#!"])
)
def test_any_bytes_are_converted_or_refused(data, start):
    try:
        found = convert([Given("f", start + data)], Wishes())
    except UserError:
        return
    assert parse(found.text, "f").name == "service"


def test_the_command_writes_a_file_once_and_reports(tmp_path):
    (tmp_path / "a.csdef").write_text(csdef(""))
    (tmp_path / "a.cscfg").write_text(CSCFG)
    arguments = ["convert", str(tmp_path / "a.csdef"), str(tmp_path / "a.cscfg")]
    done = CliRunner().invoke(root, [*arguments, "-o", str(tmp_path / "s.yaml")])
    assert done.exit_code == 0
    assert "decide: r/image" in done.stderr
    assert parse((tmp_path / "s.yaml").read_text(), "f").roles[0].instances == 2
    again = CliRunner().invoke(root, [*arguments, "-o", str(tmp_path / "s.yaml")])
    assert isinstance(again.exception, UserError)
    assert CliRunner().invoke(root, [*arguments, "-o", str(tmp_path / "s.yaml"), "--force"]).exit_code == 0
    shown = CliRunner().invoke(root, [*arguments, "--json"])
    assert set(json.loads(shown.stdout)) == {"service", "report"}


def test_the_command_prints_to_stdout_what_can_be_piped(tmp_path):
    (tmp_path / "a").write_text(csdef(""))
    done = CliRunner().invoke(root, ["convert", str(tmp_path / "a"), "--image", "web"])
    assert parse(done.stdout, "f").roles[0].image == "web"
