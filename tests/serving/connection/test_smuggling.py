"""What a body holds is never answered to somebody else: through a real nginx, and for clients that offer an upgrade."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.attack_table import Attack
from tests.serving.conftest import Server

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
JAVA = shutil.which("java") if shutil.which("javac") else None

CONFIG = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream moderation {{ server {upstream}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://moderation;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""


def smuggled(number: int) -> bytes:
    """A request that takes so long that somebody else's comes onto the same connection meanwhile."""
    texts = [f"kind river {number} {i} " * 30 for i in range(60)]
    body = json.dumps({"texts": texts}).encode()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


@contextmanager
def proxy(server: Server, folder: Path, buffering: str) -> Iterator[int]:
    """A real nginx in front of a server, with the usual lines for WebSockets."""
    assert NGINX is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    upstream = server.url.removeprefix("http://")
    config = folder / f"{buffering}.conf"
    config.write_text(CONFIG.format(folder=folder, upstream=upstream, port=port, buffering=buffering))
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def attack_through(port: int, number: int, buffering: str) -> None:
    """Send a body that is a request, behind an upgrade, and read the first answer."""
    upgrade = (b"websocket", b"h2c", b"foo")[number % 3]
    method = (b"POST", b"GET")[number % 2]
    body = b"\r\n" * (1_000, 10_000, 25_000)[number // 2 % 3] + smuggled(number)  # what goes with the head is lost
    head = b"%s /livez HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: %d\r\n\r\n"
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head %= (method, upgrade, len(body))
        for piece in [head, body] if buffering == "off" else [head + body]:  # in segments of their own they get through
            line.sendall(piece)
        line.recv(65536)


@pytest.mark.hostile("smuggling through nginx with WebSocket lines")
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("buffering", ["off", "on"])
def test_a_victim_gets_its_own_answer_through_nginx(
    buffering: str, server: Server, tmp_path: Path, attack: Attack
) -> None:
    n_tries = attack.cases(10, 72)
    with proxy(server, tmp_path, buffering) as port:
        for number in range(n_tries):
            attack_through(port, number, buffering)
            for _ in range(2):
                answer = httpx.get(f"http://127.0.0.1:{port}/v1/model", timeout=60)
                assert answer.status_code == 200
                assert "labels" in answer.json(), "somebody else's answer"
    attack.tried(n_tries)


PROGRAM = """
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Ask {
    public static void main(String[] words) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        String predict = "{\\"texts\\": [\\"kind\\"]}";
        String analyze = "{\\"comment\\": {\\"text\\": \\"kind\\"}, \\"requestedAttributes\\": {\\"TOXICITY\\": {}}}";
        ask(client, words[0] + "/v1/predict", predict);
        ask(client, words[0] + "/v1/predict", predict);
        ask(client, words[0] + "/v1/predict", predict);
        ask(client, words[0] + "/v1alpha1/comments:analyze", analyze);
        ask(HttpClient.newHttpClient(), words[0] + "/v1alpha1/comments:analyze", analyze);
    }

    static void ask(HttpClient client, String address, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(address))
            .header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString(body)).build();
        HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body().length());
    }
}
"""


@pytest.mark.skipif(JAVA is None, reason="no JDK is installed")
def test_the_default_client_of_java_is_answered(server: Server, tmp_path: Path) -> None:
    """It offers HTTP/2 with its first request of each connection."""
    program = tmp_path / "Ask.java"
    program.write_text(PROGRAM)
    words = [str(JAVA), "-XX:TieredStopAtLevel=1", "-Xshare:auto", str(program), server.url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, env=os.environ | {"LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    answers = [line.split() for line in done.stdout.splitlines()]
    assert [status for status, *_ in answers] == ["200"] * 5
    assert all(int(length) > 50 for *_, length in answers)
