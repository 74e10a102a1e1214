"""The stand-in for Perspective's host: the certificate that its script makes, and its nginx, before a real server."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

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


@pytest.fixture
def tls_port(certificates: Path, server: Server, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx with the project's own lines, but for its port, its folder and its server."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not program:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
    for old, new in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/certificates/", f"{certificates}/"),
        ("http://moderation:8000", server.url),
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


def test_a_client_that_does_not_is_not_led_astray(tls_port: int) -> None:
    answer = ask(tls_port)
    assert answer.returncode == 60  # curl: the certificate is not trusted
    assert not answer.stdout


def test_the_authority_cannot_sign_again_and_the_key_is_private(certificates: Path) -> None:
    assert {path.name for path in certificates.iterdir()} == {"ca.pem", "host.pem", "host.key"}
    assert (certificates / "host.key").stat().st_mode & 0o077 == 0


def test_the_compose_file_leads_the_name_to_nginx_with_the_files_that_are_there() -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["perspective-host"]
    assert service["networks"]["perspective"]["aliases"] == [HOST]
    sources = [ROOT / volume["source"] for volume in service["volumes"]]
    assert sources == [FOLDER / "nginx.conf", FOLDER / "certificates"]
    assert service["depends_on"] == ["moderation"]
