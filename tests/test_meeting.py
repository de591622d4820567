"""Ranks that wait for each other at the store of the first one."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.support.ranks import free_port
from translit_scale.errors import EXIT_LOST, ConfigError, UserError
from translit_scale.train.launching import meeting
from translit_scale.train.launching.environment import World
from translit_scale.train.launching.meeting import LostPeerError, meet


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The first of three ranks, which waits for a second at most."""
    monkeypatch.setattr(meeting, "MEETING_SECONDS", 1.0)
    monkeypatch.setattr(meeting, "REPORT_SECONDS", 0.4)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    return World(0, 3, 0, 3, "localhost", free_port())


def meet_in_thread(world: World, raised: list[UserError]) -> threading.Thread:
    def body() -> None:
        try:
            meet(world, "gloo")
        except UserError as error:
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def test_all_come(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "MEETING_SECONDS", 60.0)
    raised: list[UserError] = []
    others = [meet_in_thread(replace(world, rank=rank, local_rank=rank), raised) for rank in (1, 2)]
    store = meet(world, "gloo")  # it ends with its last reference, and others may still read it
    store.set("key", "value")
    for thread in others:
        thread.join()
    assert not raised


def test_the_ranks_that_do_not_come_are_named(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    raised: list[UserError] = []
    other = meet_in_thread(replace(world, rank=1, local_rank=1), raised)
    with pytest.raises(LostPeerError, match=rf"^1 of 3 ranks have not come to localhost:{world.port} within 1 s: 2\n"):
        meet(world, "gloo")
    other.join()
    assert raised[0].exit_code == EXIT_LOST and "not all 3 ranks have come" in raised[0].message
    assert f"waiting at localhost:{world.port} for 1 of 3 ranks: 2\n" in capfd.readouterr().err


def test_a_first_rank_that_does_not_come(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LostPeerError, match=rf"cannot reach the first rank at localhost:{world.port} \(Connection ref"):
        meet(replace(world, rank=2), "gloo")
    assert "goes on trying" in capfd.readouterr().err


def test_a_name_that_nobody_knows(world: World) -> None:
    with pytest.raises(ConfigError, match=r"does not know the host no\.such\.host of the first rank \(MASTER_ADDR\)"):
        meet(replace(world, rank=1, address="no.such.host"), "gloo")


@pytest.mark.parametrize(
    ("address", "words"),
    [("no.such.host", "does not know the host"), ("192.0.2.1", "but MASTER_ADDR is 192.0.2.1, where")],
)
def test_the_first_rank_whom_the_others_look_for_elsewhere(world: World, address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        meet(replace(world, address=address), "gloo")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_another_program_in_place_of_the_first_rank(
    answer: bytes, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    def serve(server: socket.socket, held: list[socket.socket]) -> None:
        with suppress(OSError):  # the test is over
            while True:
                connection, _ = server.accept()
                held.append(connection)
                connection.sendall(answer)

    with socket.create_server(("", world.port)) as server:
        threading.Thread(target=serve, args=(server, []), daemon=True).start()
        with pytest.raises(LostPeerError, match=rf"listens at localhost:{world.port} does not answer .* within 1 s"):
            meet(replace(world, rank=1), "gloo")
        server.shutdown(socket.SHUT_RDWR)
    assert "it goes on trying" in capfd.readouterr().err


def test_a_port_that_is_taken(world: World) -> None:
    with socket.create_server(("", world.port)), pytest.raises(ConfigError, match=f"holds port {world.port}"):
        meet(world, "gloo")


@pytest.mark.parametrize(("address", "words"), [("127.0.1.1", "to 127.0.1.1, which"), ("", "to no address")])
def test_a_host_whose_own_name_leads_to_itself(
    address: str, words: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Debian writes it into /etc/hosts; gloo would listen there, where the other hosts cannot come."""
    monkeypatch.setattr(meeting, "own_address", lambda: address)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with pytest.raises(ConfigError, match=f"its own name resolves {words}"):
        meet(replace(world, local_size=2), "gloo")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    with pytest.raises(LostPeerError):
        meet(replace(world, local_size=2), "gloo")
