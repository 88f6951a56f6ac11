"""What is taken for a secret when somebody's files are converted, and what is not."""

import pytest

from orchestrator.convert.secrecy import holds_secret, in_command, is_secretive


@pytest.mark.parametrize(
    "text",
    [
        "password = x", '"db_password": "x"', "DB_PASSWORD=x", "requirepass x1", "AccountKey=abc==", "token: abc",
        "https://user:word@host/", "-----BEGIN RSA PRIVATE KEY-----", "Authorization: Bearer abcdef",
        "http://host/file?sv=1&sig=abc", "PrivateKey = abc", "Server=a;Pwd=b",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_taken_for_one(text):
    assert holds_secret(text)
    assert in_command(text)


@pytest.mark.parametrize(
    "text",
    [
        "echo a:b | chpasswd", "curl -u me:word http://h/", "mysql -u root -pword", "net user joe word /add",
        "kubeadm join --token abc.def h:6443", "sshpass -p x ssh h", "ConvertTo-SecureString 'x' -AsPlainText -Force",
        "cmdkey /add:h /user:u /pass:x", "app --password=word",
    ],
)  # fmt: skip
def test_a_command_with_a_secret_is_taken_for_one(text):
    assert in_command(text)


@pytest.mark.parametrize(
    "text",
    [
        "PasswordAuthentication no", "ssh_pwauth: true", "echo $PASSWORD", "docker run -u 1000:1000 x", "cd ${PWD}",
        "app --password $PW", "https://host/path", "systemctl restart tokend", "apt-get install -y passwd",
        "net user joe /active:no", "password: '{{ secret }}'", "server: http://key.example.com:80/", "a -pass-through",
        "app ALL=(ALL) NOPASSWD: ALL", "ALL=(ALL) NOPASSWD:ALL",
    ],
)  # fmt: skip
def test_what_only_sounds_like_a_secret_is_none(text):
    assert not in_command(text)


@pytest.mark.parametrize("name", ["password", "DB_PASSWORD", "psk", "wifi-psk", "api_key", "validation_key", "token"])
def test_what_is_called_a_secret_is_taken_for_one(name):
    assert is_secretive(name, "x")
    assert not is_secretive(name, "")


@pytest.mark.parametrize("name", ["lock_passwd", "ssh_pwauth", "password_file", "TokenLifetime", "keyboard", "psklike"])
def test_what_is_called_like_a_secret_is_none(name):
    assert not is_secretive(name, "x")
