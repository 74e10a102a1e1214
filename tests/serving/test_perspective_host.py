"""The stand-in for Perspective's host: the certificate that its script makes, and its nginx, before a real server."""

import json
import os
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from moderation.config import ServeConfig
from moderation.options import settings_of
from moderation.serving.addresses import read_public_url
from tests.serving.conftest import Server

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/perspective-host"
HOST = "commentanalyzer.googleapis.com"
ASKED = {"comment": {"text": "you stupid idiot"}, "languages": ["en"], "requestedAttributes": {"TOXICITY": {}}}


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path / "certificates"
    subprocess.run(["sh", FOLDER / "make-certificate.sh", folder], check=True, capture_output=True)
    return folder


class Names(socketserver.UDPServer):
    """A server of names that says for ten minutes ahead where `moderation` is, as Docker's does."""

    address = "127.0.0.1"

    class RequestHandlerClass(socketserver.BaseRequestHandler):
        server: "Names"

        def handle(self) -> None:
            asked, line = self.request
            is_known = asked[12:].startswith(b"\nmoderation\0\0\x01")
            answer = struct.pack("!HHHLH4s", 0xC00C, 1, 1, 600, 4, socket.inet_aton(self.server.address))
            head = asked[:2] + (b"\x81\x80\0\1\0\1" if is_known else b"\x81\x83\0\1\0\0") + bytes(4)
            line.sendto(head + asked[12:] + (answer if is_known else b""), self.client_address)


@pytest.fixture
def names() -> Iterator[Names]:
    with Names(("127.0.0.1", 0), Names.RequestHandlerClass) as it:
        thread = threading.Thread(target=it.serve_forever, args=(0.05,))
        thread.start()
        yield it
        it.shutdown()
        thread.join()


@pytest.fixture
def tls_port(certificates: Path, server: Server, names: Names, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx with the project's own lines, but for its ports, its folder and who tells it names."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not program:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
    for old, new in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/certificates/", f"{certificates}/"),
        ("http://moderation:8000", f"http://moderation:{server.url.rpartition(':')[2]}"),
        ("127.0.0.11 valid=5s", f"127.0.0.1:{names.server_address[1]} valid=1s"),
    ):
        assert old in lines
        lines = lines.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}} http {{ {temporary} {lines} }}"
    )
    with subprocess.Popen([program, "-p", tmp_path, "-c", tmp_path / "nginx.conf"], stderr=subprocess.PIPE) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def ask(port: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Ask as a client does that knows no other host, with curl, whose name for it leads here."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    address = f"https://{HOST}:{port}/v1alpha1/comments:analyze?key=KEY"
    led = ["--resolve", f"{HOST}:{port}:127.0.0.1", "--silent", "--show-error", "--noproxy", "*"]
    return subprocess.run(
        ["curl", *led, *words, "--json", json.dumps(ASKED), address], capture_output=True, text=True, check=False
    )


def test_a_client_that_trusts_the_authority_is_answered_under_googles_name(tls_port: int, certificates: Path) -> None:
    answer = ask(tls_port, "--cacert", certificates / "ca.pem")
    assert answer.returncode == 0, answer.stderr
    assert 0 <= json.loads(answer.stdout)["attributeScores"]["TOXICITY"]["summaryScore"]["value"] <= 1


def test_the_server_is_found_again_where_its_address_changes(tls_port: int, certificates: Path, names: Names) -> None:
    names.address = "127.0.0.2"  # where nobody listens
    trusting = ("--cacert", certificates / "ca.pem")
    assert "502 Bad Gateway" in ask(tls_port, *trusting).stdout
    names.address = "127.0.0.1"
    end = time.monotonic() + 60
    while "attributeScores" not in ask(tls_port, *trusting).stdout:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_client_that_does_not_is_not_led_astray(tls_port: int) -> None:
    answer = ask(tls_port)
    assert answer.returncode == 60  # curl: the certificate is not trusted
    assert not answer.stdout


def test_the_authority_cannot_sign_again_and_the_key_is_private(certificates: Path) -> None:
    assert {path.name for path in certificates.iterdir()} == {"ca.pem", "host.pem", "host.key"}
    assert (certificates / "host.key").stat().st_mode & 0o077 == 0


def make(
    folder: Path | str, *, where: Path | None = None, **variables: str | Path
) -> subprocess.CompletedProcess[bytes]:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    words = ["sh", FOLDER / "make-certificate.sh", folder]
    env = os.environ | {name: str(value) for name, value in variables.items()}
    return subprocess.run(words, cwd=where, env=env, capture_output=True, check=False)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_step_that_fails_leaves_no_key(step: int, tmp_path: Path) -> None:
    programs, temporary = tmp_path / "programs", tmp_path / "temporary"
    programs.mkdir()
    temporary.mkdir()
    (programs / "openssl").write_text(
        f"#!/bin/sh\necho >> {tmp_path}/steps\n"
        f'[ $(wc -l < {tmp_path}/steps) -lt {step} ] && exec {shutil.which("openssl")} "$@"\nexit 1\n'
    )
    (programs / "openssl").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    assert make(tmp_path / "certificates", PATH=path, TMPDIR=temporary).returncode != 0
    assert (tmp_path / "steps").read_text().count("\n") == step
    assert [*(tmp_path / "certificates").iterdir(), *temporary.iterdir()] == []


def test_existing_files_neither_keep_their_permissions_nor_lead_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "host.key").write_text("old")
    (folder / "host.key").chmod(0o644)
    for name in ("ca.key", "ca.pem", "host.pem"):
        (tmp_path / name).write_text("somebody's")
        (folder / name).symlink_to(tmp_path / name)
    assert make(folder).returncode == 0
    assert (folder / "host.key").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" in (folder / "host.key").read_text()
    for name in ("ca.key", "ca.pem", "host.pem"):
        assert (tmp_path / name).read_text() == "somebody's"


def test_the_named_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "certificates").mkdir(parents=True)
    for name in ("certificates", "-rf", "a b"):
        (tmp_path / name).mkdir()
        assert make(name, where=tmp_path, CDPATH=tmp_path / "elsewhere").returncode == 0
        assert {path.name for path in (tmp_path / name).iterdir()} == {"ca.pem", "host.pem", "host.key"}
    assert not any((tmp_path / "elsewhere" / "certificates").iterdir())


@pytest.mark.parametrize(
    ("name", "is_fine"),
    [
        (f"DNS:{HOST}", True),
        ("DNS:example.org", False),
        ("DNS:googleapis.com", False),
        (f"DNS:{HOST},DNS:accounts.google.com", False),
        ("IP:127.0.0.1", False),
        ("IP:::1", False),
    ],
)
def test_the_authority_is_valid_for_no_other_host(name: str, is_fine: bool, tmp_path: Path) -> None:
    """Even with its key, which the script does not keep: here the folder that it works in stays."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "rm").write_text("#!/bin/sh\n")
    (programs / "rm").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    assert make(tmp_path / "certificates", PATH=path, TMPDIR=tmp_path).returncode == 0
    (key,) = tmp_path.glob("*/ca.key")
    work, authority = key.parent, tmp_path / "certificates/ca.pem"
    (work / "host.ext").write_text(f"subjectAltName={name}\n")
    signing = ["openssl", "x509", "-req", "-in", "host.csr", "-CA", authority, "-CAkey", key, "-CAcreateserial"]
    subprocess.run([*signing, "-extfile", "host.ext", "-out", "new.pem"], cwd=work, check=True, capture_output=True)
    found = subprocess.run(
        ["openssl", "verify", "-CAfile", authority, work / "new.pem"], capture_output=True, check=False
    )
    assert (found.returncode == 0) == is_fine, found


def test_the_compose_file_points_the_name_to_nginx_with_the_files_that_exist() -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["perspective-host"]
    assert service["networks"]["perspective"]["aliases"] == [HOST]
    sources = [ROOT / volume["source"] for volume in service["volumes"]]
    assert sources == [FOLDER / "nginx.conf", FOLDER / "certificates"]
    variables = compose["services"]["moderation"]["environment"]
    assert variables == {"MODERATION_PUBLIC_URL": f"https://{HOST}"}
    assert read_public_url(f"https://{HOST}") == f"https://{HOST}/"
    assert "public_url" in settings_of(ServeConfig), "a setting of the server"
    assert service["depends_on"] == {"moderation": {"condition": "service_healthy"}}
    assert "\nHEALTHCHECK " in (ROOT / "Dockerfile").read_text(encoding="utf-8")
