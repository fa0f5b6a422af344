# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients can and cannot do at the file server, asked over the network by real clients."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services import as_service, assert_sandboxed, exposure, main_pid, process_status, refused, within

WRITER, READER = ("publisher", "molecule-only"), ("devices", "read-only")
# what `systemd-analyze security` said when this was written
EXPOSURE_MAX = {"vsftpd": 2.4, "fleet-sftp": 2.3}
# CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT
BECOME_AND_LOCK_IN = 1 << 6 | 1 << 7 | 1 << 10 | 1 << 18
SFTP_PORT = 2222


class Client(ftplib.FTP_TLS):
    """As the project's own clients do: the data connection continues the control connection's TLS session."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        line, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.context.wrap_socket(line, server_hostname="files.example.com", session=self.sock.session), size


@pytest.fixture(scope="module")
def address(host: Any) -> str:
    found = re.search(r"inet ([0-9.]+)/", host.check_output("ip -4 address show dev eth0"))
    assert found
    return found[1]


@pytest.fixture(scope="module")
def context(host: Any, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Trusts the server's own certificate and nothing else, under the name that the role was given."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_text(host.file("/etc/fleet-files/certificate.pem").content_string)
    return ssl.create_default_context(cafile=str(path))


@pytest.fixture
def ftps(address: str, context: ssl.SSLContext) -> Iterator[Any]:
    clients: list[Client] = []

    def login(user: str, password: str) -> Client:
        client = Client(context=context, timeout=20)
        client.connect(address, 21)
        # the certificate's name is checked, though the container is reached by its address
        client.host = "files.example.com"
        clients.append(client)
        client.login(user, password)
        client.prot_p()
        return client

    yield login
    for client in clients:
        client.close()


def put(client: ftplib.FTP, name: str, data: bytes) -> str:
    return client.storbinary(f"STOR {name}", io.BytesIO(data))


def get(client: ftplib.FTP, name: str) -> bytes:
    parts: list[bytes] = []
    client.retrbinary(f"RETR {name}", parts.append)
    return b"".join(parts)


def sftp(address: str, user: str, *lines: str, key: Path) -> subprocess.CompletedProcess[str]:
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "ConnectTimeout=10"]
    return subprocess.run(
        ["sftp", "-F", "none", *(word for option in options for word in ("-o", option)), "-i", str(key),
         "-P", str(SFTP_PORT), "-b", "-", f"{user}@{address}"],
        input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def key() -> Path:
    """The publisher's key, made by the scenario's converge.yml."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "publisher"


def test_what_a_writer_uploads_over_ftps_readers_and_strangers_get(ftps: Any) -> None:
    data = bytes(range(256)) * 4096
    writer = ftps(*WRITER)
    assert put(writer, "fridge/new.part", data).startswith("226")
    # as a publisher makes a file appear whole
    writer.rename("fridge/new.part", "fridge/new")
    assert get(ftps(*READER), "fridge/new") == data
    assert get(ftps("anonymous", ""), "fridge/new") == data


@pytest.mark.parametrize("user", [READER, ("anonymous", "")])
def test_readers_change_nothing(ftps: Any, user: tuple[str, str]) -> None:
    put(ftps(*WRITER), "fridge/kept", b"kept")
    reader = ftps(*user)
    for attempt in (
        lambda: put(reader, "fridge/evil", b"evil"),
        lambda: reader.delete("fridge/kept"),
        lambda: reader.rename("fridge/kept", "fridge/gone"),
        lambda: reader.mkd("fridge/evil"),
        lambda: reader.sendcmd("SITE CHMOD 777 fridge/kept"),
    ):
        with pytest.raises(ftplib.error_perm, match=r"550|500"):
            attempt()
    assert get(reader, "fridge/kept") == b"kept"


def test_plain_ftp_is_refused(address: str) -> None:
    with ftplib.FTP(timeout=20) as client:
        client.connect(address, 21)
        with pytest.raises(ftplib.Error, match=r"encryption|TLS|SSL"):
            client.login(*WRITER)
    with ftplib.FTP(timeout=20) as client:
        client.connect(address, 21)
        with pytest.raises(ftplib.Error, match=r"encryption|TLS|SSL"):
            client.login()


def test_data_in_the_clear_is_refused(ftps: Any) -> None:
    client = ftps(*WRITER)
    client.prot_c()
    with pytest.raises(ftplib.Error, match=r"PROT P|522"):
        client.voidcmd("TYPE I") and ftplib.FTP.ntransfercmd(client, "LIST")


def test_a_stranger_cannot_take_over_a_data_connection(address: str, ftps: Any, context: ssl.SSLContext) -> None:
    """A TLS session of its own is not enough: it has to be the control connection's."""
    client = ftps(*WRITER)
    port = client.makepasv()[1]
    client.putcmd("LIST")
    raw = socket.create_connection((address, port), timeout=10)
    got = b""
    with contextlib.suppress(OSError), context.wrap_socket(raw, server_hostname="files.example.com") as line:
        got = line.recv(100)
    raw.close()
    assert got == b""
    answers: list[str] = []
    with contextlib.suppress(EOFError):
        while len(answers) < 2:
            try:
                answers.append(client.getresp())
            except ftplib.Error as error:
                answers.append(str(error))
    assert answers[-1].startswith(("4", "5")), answers


def test_old_tls_is_refused(address: str, context: ssl.SSLContext) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    client = ftplib.FTP_TLS(context=old, timeout=20)
    client.connect(address, 21)
    with pytest.raises(OSError, match=r"(?i)ssl|tls|reset"):
        client.auth()
    client.close()


@pytest.mark.parametrize("user", [("publisher", "wrong"), ("root", "molecule-only"), ("nobody", "")])
def test_others_do_not_get_in(ftps: Any, user: tuple[str, str]) -> None:
    with pytest.raises(ftplib.Error, match="530"):
        ftps(*user)


@pytest.mark.parametrize("user", [WRITER, ("anonymous", "")])
def test_ftps_locks_everybody_in(host: Any, ftps: Any, user: tuple[str, str]) -> None:
    client = ftps(*user)
    client.cwd("/../../..")
    assert client.pwd() == "/"
    assert sorted(client.nlst("/")) == ["/fridge", "/other"]
    host.check_output("ln -sfn /etc /srv/fleet-files/fridge/out")
    for name in ("/etc/passwd", "../../etc/passwd", "fridge/out/passwd", "/proc/self/environ"):
        with pytest.raises(ftplib.error_perm, match="550"):
            get(client, name)
    host.check_output("rm /srv/fleet-files/fridge/out")


def test_the_folder_that_locks_in_is_nobodys_to_write(ftps: Any) -> None:
    with pytest.raises(ftplib.error_perm, match=r"553|550"):
        put(ftps(*WRITER), "evil", b"")


def test_a_writer_uploads_over_sftp_too(host: Any, address: str, key: Path, tmp_path: Path) -> None:
    (tmp_path / "made").write_text("made")
    result = sftp(address, "publisher", "cd fridge", f"put {tmp_path}/made made.part", "rename made.part made", key=key)
    assert result.returncode == 0, result.stderr
    assert host.file("/srv/fleet-files/fridge/made").content_string == "made"
    assert host.file("/srv/fleet-files/fridge/made").group == "fleet-files-writers"


def test_sftp_locks_everybody_in(host: Any, address: str, key: Path, tmp_path: Path) -> None:
    host.check_output("ln -sfn /etc /srv/fleet-files/fridge/out")
    listed = sftp(address, "publisher", "cd ../../..", "pwd", "ls -1", key=key)
    assert "Remote working directory: /\n" in listed.stdout
    assert listed.stdout.split()[-2:] == ["fridge", "other"]
    for name in ("/etc/passwd", "../../etc/passwd", "fridge/out/passwd"):
        assert sftp(address, "publisher", f"get {name} {tmp_path}/got", key=key).returncode != 0
        assert not (tmp_path / "got").exists()
    host.check_output("rm /srv/fleet-files/fridge/out")


@pytest.mark.parametrize("words", [["id"], ["-tt"], ["-W", "127.0.0.1:22"]])
def test_sftp_is_no_shell_and_no_way_through(address: str, key: Path, words: list[str]) -> None:
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "BatchMode=yes"]
    option = words if words[0].startswith("-") else []
    command = words if not option else []
    result = subprocess.run(
        ["ssh", "-F", "none", *(word for name in options for word in ("-o", name)), "-i", str(key),
         "-p", str(SFTP_PORT), *option, f"publisher@{address}", *command],
        input="", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "uid=" not in result.stdout
    assert result.returncode != 0 or not result.stdout.strip()


def test_an_account_without_a_key_does_not_get_in_over_sftp(address: str, key: Path) -> None:
    result = sftp(address, "devices", "ls", key=key)
    assert result.returncode != 0
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize("unit", EXPOSURE_MAX)
def test_the_server_is_locked_in_itself(host: Any, unit: str) -> None:
    assert_sandboxed(host, unit, BECOME_AND_LOCK_IN)
    assert exposure(host, unit) <= EXPOSURE_MAX[unit]
    for path in ("/etc/evil", "/usr/bin/evil", "/srv/fleet-files/evil"):
        assert refused(as_service(host, unit, "root", f"touch {path}"))
    assert as_service(host, unit, "root", "ls /home /root").stdout.split() == ["/home:", "/root:"]


def test_the_process_that_serves_somebody_is_that_account(host: Any, ftps: Any) -> None:
    ftps(*WRITER)
    pids = host.check_output("pgrep --full vsftpd").split()
    owners = {host.check_output(f"ps -o user= -p {pid}").strip() for pid in pids if host.file(f"/proc/{pid}").exists}
    assert "publisher" in owners, owners


@pytest.mark.parametrize("unit", EXPOSURE_MAX)
def test_a_killed_server_comes_back(host: Any, unit: str) -> None:
    before = main_pid(host, unit)
    assert process_status(host, before)["Pid"] == before
    host.check_output(f"kill -9 {before}")
    assert within(30, lambda: main_pid(host, unit) not in ("0", before))
    assert host.service(unit).is_enabled


def test_secrets_are_roots_alone(host: Any) -> None:
    for path in ("/etc/fleet-files/key.pem", "/etc/fleet-files/ssh_host_ed25519_key"):
        assert host.file(path).mode == 0o600
        assert host.file(path).user == "root"
