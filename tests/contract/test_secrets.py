"""What the store of secrets promises; on the real one also what its files are like."""

import json
import stat
import subprocess
import sys

import pytest

from orchestrator.drivers.secrets import SecretStore
from orchestrator.errors import NotFound, Refused
from orchestrator.model.secret import Secret, SecretRef
from tests.fakes.small import FakeSecrets

VALUE = Secret(b"s3cret-canary \xff\0")
REF = SecretRef("env:X", "k1")


class SecretsContract:
    """``secrets``: without values; ``keep`` puts one there under a key."""

    def test_a_value_that_was_kept_is_revealed(self, secrets, keep):
        keep("k1", VALUE)
        assert secrets.reveal(REF) == VALUE

    @pytest.mark.parametrize("key", ["", "k2"])
    def test_what_is_not_there_is_refused_with_what_to_do(self, secrets, keep, key):
        keep("k1", VALUE)
        with pytest.raises(Refused, match="env:X") as told:
            secrets.reveal(SecretRef("env:X", key))
        assert "vmrole up" in told.value.message


class TestFakeSecrets(SecretsContract):
    @pytest.fixture
    def secrets(self):
        return FakeSecrets()

    @pytest.fixture
    def keep(self, secrets):
        return secrets.kept.__setitem__


class TestSecretStore(SecretsContract):
    @pytest.fixture
    def secrets(self, tmp_path):
        return SecretStore(tmp_path)

    @pytest.fixture
    def keep(self, secrets):
        def put(key, value):
            with secrets.alone():
                secrets.keep({key: value})

        return put

    def test_its_files_are_its_owners_alone_and_say_nothing(self, secrets, keep, tmp_path):
        keep("k1", VALUE)
        secrets.put_named("db", VALUE)
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert b"canary" not in path.read_bytes()
        assert {path.name for path in tmp_path.iterdir()} == {"secrets", "secrets.key", "secrets.lock"}

    def test_a_key_that_others_can_read_is_closed_again(self, secrets, tmp_path, caplog):
        secrets.put_named("db", VALUE)
        (tmp_path / "secrets.key").chmod(0o644)
        assert secrets.named("db") == VALUE
        assert stat.S_IMODE((tmp_path / "secrets.key").stat().st_mode) == 0o600
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    def test_looking_writes_nothing(self, secrets, tmp_path):
        assert (secrets.names(), secrets.named("db")) == ((), None)
        assert secrets.digest(VALUE) == secrets.digest(VALUE)
        assert list(tmp_path.iterdir()) == []

    def test_another_process_has_the_same_values_and_keys(self, secrets, tmp_path):
        before = secrets.digest(VALUE)
        secrets.put_named("db", VALUE)
        other = SecretStore(tmp_path)
        assert (other.names(), other.named("db")) == (("db",), VALUE)
        assert other.digest(VALUE) == secrets.digest(VALUE) == before
        assert other.digest(VALUE) != other.digest(Secret(b"x"))
        (tmp_path / "elsewhere").mkdir()
        assert SecretStore(tmp_path / "elsewhere").digest(VALUE) != before

    def test_only_what_is_needed_is_kept(self, secrets, keep):
        secrets.put_named("db", VALUE)
        keep("k1", VALUE)
        keep("k2", VALUE)
        with secrets.alone():
            secrets.forget_but({"k2", "k3"})
        assert secrets.reveal(SecretRef("", "k2")) == VALUE
        assert secrets.names() == ("db",)
        with pytest.raises(Refused):
            secrets.reveal(REF)

    def test_a_name_is_changed_and_goes(self, secrets):
        for value in (VALUE, Secret(b"new")):
            secrets.put_named("db", value)
            assert secrets.named("db") == value
        secrets.remove_named("db")
        with pytest.raises(NotFound, match="db"):
            secrets.remove_named("db")

    @pytest.mark.parametrize("text", ["", "00", "no hex", "11" * 32])
    def test_a_key_that_is_not_the_key_is_told(self, secrets, tmp_path, text):
        secrets.put_named("db", VALUE)
        (tmp_path / "secrets.key").write_text(text)
        with pytest.raises(Refused, match=r"secrets\.key"):
            secrets.names()

    def test_a_lost_key_is_told_and_not_replaced(self, secrets, tmp_path):
        secrets.put_named("db", VALUE)
        (tmp_path / "secrets.key").unlink()
        for act in (secrets.names, lambda: secrets.put_named("other", VALUE)):
            with pytest.raises(Refused, match="is gone"):
                act()
        secrets.make_key()
        assert not (tmp_path / "secrets.key").exists()

    @pytest.mark.parametrize("keep_bytes", [0, 10, 40, -4])
    def test_a_damaged_file_is_told(self, secrets, tmp_path, keep_bytes):
        secrets.put_named("db", VALUE)
        path = tmp_path / "secrets"
        path.write_bytes(path.read_bytes()[:keep_bytes])
        with pytest.raises(Refused, match="damaged"):
            secrets.names()

    def test_two_processes_at_once_lose_nothing(self, tmp_path):
        script = (
            "import sys, pathlib\n"
            "from orchestrator.drivers.secrets import SecretStore\n"
            "from orchestrator.model.secret import Secret\n"
            "store = SecretStore(pathlib.Path(sys.argv[1]))\n"
            "for n in range(10): store.put_named(f'{sys.argv[2]}{n}', Secret(b'x'))\n"
        )
        started = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name]) for name in "ab"]
        assert [process.wait(60) for process in started] == [0, 0]
        assert len(SecretStore(tmp_path).names()) == 20


def test_the_command_line_never_shows_a_value(tmp_path):
    def vmrole(*args, **options):
        argv = [sys.executable, "-m", "orchestrator", "--home", str(tmp_path / "home"), "secret", *args]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False, **options)

    for code, args, given in (
        (0, ("set", "db"), b"s3cret-canary"),
        (2, ("set", "db"), b""),
        (2, ("set", "x y"), b"s3cret-canary"),
        (2, ("set", "large"), b"s3cret-canary" * 10_000),
        (0, ("ls",), b""),
        (0, ("ls", "--json"), b""),
    ):
        done = vmrole(*args, input=given)
        assert b"canary" not in done.stdout + done.stderr
        assert done.returncode == code
    assert json.loads(vmrole("ls", "--json").stdout) == [{"name": "db", "services": []}]
    assert SecretStore(tmp_path / "home").named("db") == Secret(b"s3cret-canary")
    assert vmrole("rm", "db").returncode == 0
    assert vmrole("rm", "db").returncode == 2
