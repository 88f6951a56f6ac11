"""Files by a guest's agent: whole in both ways, whatever the agent takes at once; an answer that is none is refused."""

import base64
import io

import pytest

from orchestrator.drivers import guestfiles
from orchestrator.drivers.guestfiles import receive, send
from orchestrator.errors import AgentRefused


class Agent:
    """One with a file; ``takes``: so many bytes are written at once."""

    def __init__(self, content: bytes = b"", takes: int = 1 << 30) -> None:
        self.content = content
        self.takes = takes
        self.at = 0
        self.open = 0

    def agent(self, _domain, command, arguments, _timeout_s):
        if command == "guest-file-open":
            self.open, self.at = self.open + 1, 0
            self.content = b"" if arguments["mode"] == "w" else self.content
            return 7
        assert arguments["handle"] == 7
        if command == "guest-file-read":
            piece = self.content[self.at : self.at + arguments["count"]]
            self.at += len(piece)
            return {"buf-b64": base64.b64encode(piece).decode(), "count": len(piece)}
        if command == "guest-file-write":
            assert len(arguments["buf-b64"]) <= 128 * 1024
            piece = base64.b64decode(arguments["buf-b64"])[: self.takes]
            self.content += piece
            return {"count": len(piece)}
        self.open -= command == "guest-file-close"
        return {}


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 40])
@pytest.mark.parametrize("takes", [1 << 30, 100])
def test_what_is_sent_comes_back(content, takes, monkeypatch):
    monkeypatch.setattr(guestfiles, "PIECE_BYTES", 1000)
    monkeypatch.setattr(guestfiles, "SEND_BYTES", 900)
    agent = Agent(takes=takes)
    assert send(agent, "d", "/x", io.BytesIO(content)) == len(content)
    assert agent.content == content
    assert b"".join(receive(agent, "d", "/x")) == content
    assert agent.open == 0


def test_one_that_takes_nothing_is_not_asked_for_ever():
    agent = Agent(takes=0)
    with pytest.raises(AgentRefused, match="0 of 1 bytes"):
        send(agent, "d", "/x", io.BytesIO(b"x"))
    assert agent.open == 0


@pytest.mark.parametrize("answer", [None, {}, {"buf-b64": "*"}, "text", 5])
def test_an_answer_that_is_none(answer):
    class Odd(Agent):
        def agent(self, domain, command, arguments, timeout_s):
            return answer if command == "guest-file-read" else super().agent(domain, command, arguments, timeout_s)

    with pytest.raises(AgentRefused):
        list(receive(Odd(b"x"), "d", "/x"))
