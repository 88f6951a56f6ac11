"""The guard of conftest.py: a unit test that starts a program or talks to the network fails."""

import socket
import subprocess

import pytest


def test_a_unit_test_cannot_start_a_program():
    with pytest.raises(AssertionError, match=r"subprocess\.Popen"):
        subprocess.run(["true"], check=False)


def test_a_unit_test_cannot_connect():
    with socket.socket() as link, pytest.raises(AssertionError, match=r"socket\.connect"):
        link.connect(("127.0.0.1", 9))
