"""Decisions in real databases: kept, read back, no text where none may be kept, and errors that quote none."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import event

from moderation import cli, locks
from moderation.errors import ArtifactError, ConfigError, MissingExtraError
from moderation.serving.feedback import databases
from moderation.serving.feedback import store as feedback
from moderation.serving.feedback.decisions import Decision, OutcomeUnknownError
from moderation.serving.feedback.store import FeedbackStore
from tests.attack_table import Attack
from tests.serving.conftest import wait_until

TEXT = "You \0 fool \N{PILE OF POO} \u202e" + '"; DROP TABLE feedback; --'


def decision(text: str = TEXT, *, keep_text: bool = True, value: float = 1.0) -> Decision:
    return Decision(
        text=text,
        keep_text=keep_text,
        attribute_scores={"TOXICITY": value},
        label_scores={"toxic": value},
        languages=("en",),
        model_version="tiny@0123456789ab/onnx-int8",
        model_scores={"toxic": 0.25},
        community_id="forum",
        client_token="t-1",
    )


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server of its own, which listens to a socket file alone."""
    program = shutil.which("pg_ctl") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), None)
    if program is None:
        pytest.skip("PostgreSQL is not installed (pg_ctl is not there)")
    pytest.importorskip("psycopg")
    user = "postgres" if hasattr(os, "geteuid") and os.geteuid() == 0 else None  # PostgreSQL refuses to run as root

    def run(*words: str) -> None:
        subprocess.run(
            [program, "-D", str(folder / "data"), *words], user=user, cwd="/", check=True, stdout=log, stderr=log
        )

    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as log:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        run("initdb", "-o", "--auth=trust --username=postgres --encoding=UTF8 --no-sync")
        run("start", "--wait", "-o", f"-c listen_addresses='' -c fsync=off -k {folder}")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            run("stop", "--mode", "immediate")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'feedback.db'}"
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def store(url: str) -> Iterator[FeedbackStore]:
    it = FeedbackStore(url)
    yield it
    if url.startswith("postgresql"):
        with it._engine.begin() as connection:
            feedback._METADATA.drop_all(connection)
    it.close()


def test_decisions_come_back_in_their_order(store: FeedbackStore) -> None:
    store.add(decision())
    store.add(decision("Fine.", keep_text=False, value=0.0))
    store.add(decision(value=0.5))
    first, second, third = store.decisions()
    assert first.id < second.id < third.id
    assert first.text_sha256 == third.text_sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert first.label_scores == {"toxic": 1.0}
    assert [found.has_text for found in (first, second, third)] == [True, False, True]
    assert list(store.texts([third.id, second.id, first.id])) == [(third.id, TEXT), (first.id, TEXT)]


def test_many_decisions_are_read_in_parts(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "_IDS_AT_ONCE", 2)
    for number in range(5):
        store.add(decision(f"text {number}"))
    ids = [found.id for found in store.decisions()]
    assert [text for _, text in store.texts(ids[::-1])] == [f"text {number}" for number in reversed(range(5))]


def test_threads_and_processes_write_at_once(store: FeedbackStore, url: str) -> None:
    code = f"""
import sys
from moderation.serving.feedback.decisions import Decision, OutcomeUnknownError
from moderation.serving.feedback.store import FeedbackStore
store = FeedbackStore({url!r})
print("ready", flush=True)
sys.stdin.read(1)
for number in range(20):
    store.add(Decision("a text", True, {{"TOXICITY": 1.0}}, {{"toxic": 1.0}}, ("en",), "m"))
store.close()
"""
    command = [sys.executable, "-W", "error", "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    threads = [threading.Thread(target=lambda: [store.add(decision()) for _ in range(20)]) for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == [b"ready\n"] * 3
    for process in processes:
        process.stdin.write(b"x")
        process.stdin.flush()
    for thread in threads:
        thread.start()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    for thread in threads:
        thread.join()
    assert errors == [b""] * 3
    assert sum(1 for _ in store.decisions()) == 120


def test_a_text_that_must_not_be_kept_is_nowhere_in_the_files(tmp_path: Path) -> None:
    store = FeedbackStore(f"sqlite:///{tmp_path / 'f.db'}")
    store.add(decision("xyzzy plugh", keep_text=False))
    store.add(decision("keep me please"))
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    store.close()
    assert b"xyzzy" not in content
    assert b"keep me please" in content


def test_a_locked_database_is_an_error_without_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "WAIT_S", 0.1)
    path = tmp_path / "f.db"
    store = FeedbackStore(f"sqlite:///{path}")
    store.add(decision())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ArtifactError, match=r"could not be written \(OperationalError SQLITE_BUSY\)") as caught:
        store.add(decision())
    other.close()
    assert "fool" not in str(caught.value)
    assert caught.value.__suppress_context__
    store.add(decision())
    assert sum(1 for _ in store.decisions()) == 2
    store.close()


@pytest.mark.hostile("feedback: folder that cannot be looked at")
def test_a_folder_that_cannot_be_looked_at_is_an_error_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of a network mount that is gone."""
    store = FeedbackStore(f"sqlite:///{tmp_path / 'f.db'}")
    store.add(decision())

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "stat", fail)
    for use in (lambda: store.add(decision()), store.check, lambda: list(store.decisions())):
        with pytest.raises(ArtifactError, match="OSError"):
            use()
    monkeypatch.undo()
    assert store.state() == "unavailable" and len(list(store.decisions())) == 1
    store.close()


@pytest.mark.hostile("feedback: commit that fails")
@pytest.mark.parametrize("name", ["SQLITE_IOERR_DIR_FSYNC", "SQLITE_IOERR_DELETE", "SQLITE_FULL", "the lock"])
def test_a_commit_that_fails_after_the_fact_is_told_apart(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite commits by removing its journal, and may fail after that; a full disk it finds before."""
    store = FeedbackStore(f"sqlite:///{tmp_path / 'f.db'}")
    store.add(decision())
    commit, let_go = store._engine.dialect.do_commit, locks._let_go

    def fail(connection: sqlite3.Connection) -> None:
        commit(connection)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = name
        raise error

    def fail_later(*what: object) -> None:
        let_go(*what)
        raise OSError(errno.EIO, "no")

    if name.startswith("SQLITE"):
        monkeypatch.setattr(store._engine.dialect, "do_commit", fail)
    else:
        monkeypatch.setattr(locks, "_let_go", fail_later)
    with pytest.raises(ArtifactError, match="OSError" if name == "the lock" else name) as caught:
        store.add(decision())
    assert isinstance(caught.value, OutcomeUnknownError) == (name != "SQLITE_FULL")
    assert store.state() == "unavailable"
    store.close()


def test_a_commit_that_waits_for_a_reader_in_vain_has_stored_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "WAIT_S", 0.1)
    path = tmp_path / "f.db"
    store = FeedbackStore(f"sqlite:///{path}")
    store.add(decision())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN").execute("SELECT count(*) FROM feedback").fetchone()
        with pytest.raises(ArtifactError, match="SQLITE_BUSY") as caught:
            store.add(decision())
        assert not isinstance(caught.value, OutcomeUnknownError)
    assert len(list(store.decisions())) == 1
    store.close()


def test_postgresql_waits_for_a_lock_only_for_a_limited_time(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "WAIT_S", 1)
    store = FeedbackStore(postgres)
    store.add(decision())
    with store._engine.begin() as other:
        other.exec_driver_sql("LOCK TABLE feedback IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ArtifactError, match=r"could not be written \(OperationalError 57014\)"):
            store.add(decision())
        feedback._METADATA.drop_all(other)
    store.close()


class Relay:
    """A proxy in front of a server's socket file that, told to, takes what comes over its connections in silence."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.silent: set[int] = set()  # connections by their number
        self.n_open = 0
        self.silent_at: bytes | None = None  # a word of a client that silences its connection
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """All that are open now; later ones work."""
        self.silent |= set(range(self.n_open))

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):  # it is not connected any more
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                self._ends += (client, server)
                server.connect(str(self._path))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(self.n_open, *ends), daemon=True).start()
                self.n_open += 1

    def _pump(self, number: int, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65_536):
                if self.silent_at is not None and self.silent_at in content:
                    self.silent.add(number)
                if number not in self.silent:
                    target.sendall(content)
            target.shutdown(socket.SHUT_RDWR)


@pytest.mark.hostile("feedback: PostgreSQL that goes silent")
def test_a_connection_that_goes_silent_is_given_up(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server can be reached again, the decision is kept; and what was sent to commit may be."""
    monkeypatch.setattr(feedback, "WAIT_S", 0.5)
    relay = Relay(Path(postgres.partition("?host=")[2]) / ".s.PGSQL.5432")
    with contextlib.closing(relay), contextlib.closing(FeedbackStore(postgres)) as direct:
        with contextlib.closing(FeedbackStore(f"postgresql://postgres@127.0.0.1:{relay.port}/postgres")) as store:
            store.add(decision())
            relay.silence()
            store.add(decision())
            assert (relay.n_open, store.state()) == (2, "ready")
            relay.silent_at = b"COMMIT"
            with pytest.raises(OutcomeUnknownError, match="which may be stored"):
                store.add(decision())
            assert store.state() == "unavailable"
        assert len(list(direct.decisions())) == 2
        with direct._engine.begin() as connection:
            feedback._METADATA.drop_all(connection)


def test_a_url_may_set_its_own_limits_for_a_silent_network(postgres: str) -> None:
    for more, expected in (("", (b"30", b"5000")), ("&keepalives_idle=7&tcp_user_timeout=9", (b"7", b"9"))):
        with contextlib.closing(FeedbackStore(postgres + more)) as store, store._engine.connect() as connection:
            options = {it.keyword: it.val for it in connection.connection.dbapi_connection.pgconn.info}
            assert (options[b"keepalives_idle"], options[b"tcp_user_timeout"]) == expected


def test_a_file_that_is_not_a_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f.db").write_bytes(b"something else" * 1000)
    store = FeedbackStore(f"sqlite:///{tmp_path / 'f.db'}")
    with pytest.raises(ArtifactError, match="SQLITE_NOTADB"):
        store.add(decision())
    with pytest.raises(ArtifactError, match="could not be read"):
        list(store.decisions())
    store.close()


def test_a_row_that_the_database_refuses_is_not_quoted(postgres: str) -> None:
    store = FeedbackStore(postgres)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE feedback (id serial, text text NOT NULL)")
    with pytest.raises(ArtifactError, match="ProgrammingError 42703") as caught:
        store.add(decision())
    assert "fool" not in str(caught.value)
    with store._engine.begin() as connection:
        feedback._METADATA.drop_all(connection)
    store.close()


def test_an_unreachable_server_is_an_error_that_hides_the_password() -> None:
    pytest.importorskip("psycopg")
    store = FeedbackStore("postgresql+psycopg://me:secret@127.0.0.1:1/none")
    with pytest.raises(ArtifactError, match=r"me:\*\*\*@127\.0\.0\.1:1/none: .*connection refused") as caught:
        store.add(decision())
    assert "secret" not in str(caught.value)


@pytest.mark.hostile("feedback: password in a message")
@pytest.mark.parametrize(
    "name", ["password", "sslpassword", "passfile", "application_name", "options", "sslmode", "host"]
)
def test_no_parameter_of_a_url_is_shown(name: str) -> None:
    pytest.importorskip("psycopg")
    store = FeedbackStore(f"postgresql://me:secret@127.0.0.1:1/none?{name}=/secret/secret")
    with pytest.raises(ArtifactError) as caught:
        store.add(decision())
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}" and caught.value.__suppress_context__
    store.close()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (("postgres@/postgres", "nobody@/postgres"), "does not know this user"),
        (("/postgres?", "/nowhere?"), "no such database"),
        (("?host=/", "?host=/nowhere/"), "no server has its socket"),
        (("?host", "?sslmode=secret&host"), "a parameter of the URL is not valid"),
    ],
)
def test_the_reason_why_postgresql_cannot_be_reached_is_reported(
    change: tuple[str, str], cause: str, postgres: str
) -> None:
    store = FeedbackStore(postgres.replace(*change))
    with pytest.raises(ArtifactError, match=cause):
        store.check()
    store.close()


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = FeedbackStore(f"sqlite:///{tmp_path / 'f.db'}")
    with pytest.raises(ArtifactError, match="no such file"):
        list(store.decisions())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("feedback.db", "not the URL of a database"),
        ("mysql://me:secret@host/db", "kind 'mysql'"),
        ("sqlite://", "without a file"),
        ("sqlite:///:memory:", "without a file"),
        ("postgresql+smoke://me:secret@host/db", "no such driver"),
        ("postgresql+asyncpg://me:secret@host/db", "no such driver"),
        ("postgresql+psycopg2://me:secret@host/db", "no such driver"),
        ("postgres://me:secret@host/db", "kind 'postgres'"),
        ("postgresql://me:pass@secret@host/db", "more than one '@'"),
        ("postgresql://me:pass@/secret@host/db", "more than one '@'"),
        ("postgresql://me:pass@host/secret@host/db", "more than one '@'"),
        ("postgresql://host/db?password=secret&password=secret", "twice"),
        ("postgresql://host/db?secret=secret", "does not accept"),
        ("postgresql://host/db?host=a:secret&host=b:1", "does not accept"),
        ("sqlite:///x.db?key=secret", "no parameters"),
        ("sqlite:///x.db?mode=memory&uri=true", "no parameters"),
        ("postgresql+psycopg://me:secret@host:abc/db", "the port is not valid"),
        ("postgresql+psycopg://me:secret@host:0/db", "the port is not valid"),
        ("postgresql+psycopg://me:secret@host:99999/db", "the port is not valid"),
        ("postgresql+psycopg://me:secret@/db?port=70000", "the port is not valid"),
        ("postgresql+psycopg://me:secret@/db?host=a,b&port=5432,x", "the port is not valid"),
        ("sqlite:///file:x?mode=memory&uri=true", "without a file"),
        ("sqlite://host/x.db", "3 slashes"),
        ("sqlite+aiosqlite:///x.db", "no such driver"),
    ],
)
def test_an_impossible_url_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        FeedbackStore(url)
    assert "secret" not in str(caught.value)


def test_postgresql_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match="serve-postgres"):
        FeedbackStore("postgresql+psycopg://host/db")


def test_a_check_stores_nothing_and_makes_the_file_for_its_owner(tmp_path: Path) -> None:
    for number, mask in enumerate((0o000, 0o022, 0o077)):
        path = tmp_path / f"{number}.db"
        store = FeedbackStore(f"sqlite:///{path}")
        before = os.umask(mask)
        try:
            store.check()
            assert list(store.decisions()) == []
            store.add(decision())
            with store._engine.connect() as connection:  # while it is open there are files beside it
                connection.exec_driver_sql(
                    "INSERT INTO feedback SELECT id + 1, received_at, community_id, "
                    "client_token, text_sha256, text, attribute_scores, label_scores, languages, model_version, "
                    "model_scores FROM feedback"
                )
                modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.glob(f"{number}.db*")}
        finally:
            os.umask(before)
        assert set(modes) == {f"{number}.db", f"{number}.db-journal"}
        assert set(modes.values()) == {0o600}, modes
        assert store.state() == "ready"
        store.close()


def test_a_file_that_others_could_read_is_made_private_at_the_start(tmp_path: Path) -> None:
    """Rights that it is given later are somebody's choice."""
    path = tmp_path / "f.db"
    for one in (path, tmp_path / "f.db-wal", tmp_path / "f.db-shm"):
        one.touch()
        one.chmod(0o644)
    store = FeedbackStore(f"sqlite:///{path}")
    store.check()
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600}
    path.chmod(0o640)
    store.add(decision())
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    store.close()


def test_a_decision_opens_a_file_once(tmp_path: Path) -> None:
    """Table and row are written together: a new file that holds one has both."""
    store = FeedbackStore(f"sqlite:///{tmp_path / 'f.db'}")
    opened: list[object] = []
    committed: list[object] = []
    event.listen(store._engine, "connect", lambda connection, _: opened.append(connection))
    event.listen(store._engine, "commit", committed.append)
    for _ in range(2):
        store.add(decision())
    assert (len(opened), len(committed)) == (2, 2)
    assert len(kept_in(tmp_path / "f.db")) == 2
    store.close()


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE feedback (id INTEGER PRIMARY KEY, stars INTEGER NOT NULL)")
    database.close()


def stricter(path: Path) -> None:
    """Ours, but for a column that we know nothing of and that must be filled."""
    FeedbackStore(f"sqlite:///{path}").check()
    with sqlite3.connect(path) as database:
        (made,) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'feedback'").fetchone()
        database.execute("DROP TABLE feedback")
        database.execute(made.replace("id INTEGER NOT NULL,", "id INTEGER NOT NULL, stars INTEGER NOT NULL,"))
    database.close()


def endless_view(path: Path) -> None:
    FeedbackStore(f"sqlite:///{path}").check()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE feedback RENAME TO kept")
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        database.execute(f"CREATE VIEW Feedback AS {endless} SELECT kept.* FROM n LEFT JOIN kept ON 1 WHERE n.i < 0")


def test_a_file_that_makes_sqlite_work_endlessly_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeedbackStore(f"sqlite:///{tmp_path / 'f.db'}")
    store.add(decision())
    with contextlib.closing(sqlite3.connect(tmp_path / "f.db")) as database:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
        database.execute(f"CREATE TRIGGER t AFTER INSERT ON feedback BEGIN UPDATE feedback SET text = ({endless}); END")
    monkeypatch.setattr(databases, "_LONGEST_S", 0.1)
    with pytest.raises(ArtifactError, match="OperationalError SQLITE_INTERRUPT"):
        store.add(decision())
    assert len([*store.decisions()]) == 1
    store.close()
    endless_view(tmp_path / "g.db")
    with pytest.raises(ArtifactError, match="feedback is a view there"):
        next(FeedbackStore(f"sqlite:///{tmp_path / 'g.db'}").decisions())


@pytest.mark.parametrize(
    ("name", "prepare", "complaint"),
    [
        ("nope/f.db", lambda path: None, "there is no folder"),
        ("f.db", lambda path: path.mkdir(), "this is a folder; expected an SQLite file"),
        ("f.db", lambda path: path.write_bytes(b"something else " * 100), "SQLITE_NOTADB"),
        ("f.db", foreign, "of another program: it lacks attribute_scores"),
        ("f.db", stricter, "IntegrityError"),
        ("a/f.db", lambda path: path.parent.write_text("a file"), "there is no folder"),
        ("f.db", lambda path: path.symlink_to(path.parent / "gone/f.db"), "there is no folder"),
        ("f.db", lambda path: path.symlink_to(path), "cannot be written"),
        ("f.db", endless_view, "feedback is a view there"),
    ],
)
def test_a_database_that_would_refuse_a_decision_is_refused_at_the_start(
    name: str,
    prepare: Callable[[Path], object],
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    prepare(path)
    assert cli.main(["serve", "--port", "0", "--feedback-url", f"sqlite:///{path}"]) == 1
    said = capsys.readouterr().err
    assert complaint in said and "--feedback-url ''" in said
    store = FeedbackStore(f"sqlite:///{path}")
    with pytest.raises(ArtifactError):
        store.check()
    assert store.state() == "unavailable"
    with pytest.raises(ArtifactError):
        store.add(decision())
    assert not (tmp_path / "gone").exists()


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="there is no folder that nobody may write to")
def test_a_folder_that_may_not_be_written_is_refused_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--port", "0", "--feedback-url", "sqlite:////sys/kernel/f.db"]) == 1
    assert "Choose a folder that you can write to" in capsys.readouterr().err


@pytest.mark.hostile("feedback: PostgreSQL that is not there")
@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("127.0.0.1:1", "connection refused"),
        ("127.0.0.1:SILENT", "no answer within 0.5 s"),
        ("127.0.0.1:SILENT,127.0.0.1:1", "no answer within 0.5 s"),
        ("database.invalid", "no such host|no answer within"),  # who resolves names may be slow about it
        ("127.0.0.1:HTTP", "what listens there is not PostgreSQL"),
    ],
)
def test_a_server_that_cannot_be_reached_is_refused_in_time(
    where: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg")
    assert feedback.CHECK_WITHIN_S + 3 < 10  # with what a start takes besides
    if "SILENT" in where:
        monkeypatch.setattr(feedback, "CHECK_WITHIN_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = other.accept()[0]
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 secret\r\n\r\n")
                    connection.close()

        threading.Thread(target=answer, daemon=True).start()
        for name, one in (("SILENT", silent), ("HTTP", other)):
            where = where.replace(name, str(one.getsockname()[1]))
        url = f"postgresql+psycopg://me:secret@{where}/db?password=secret"
        if "," in where:
            hosts = "&".join(f"host={host}" for host in where.split(","))
            url = f"postgresql+psycopg://me:secret@/db?{hosts}&password=secret"
        assert cli.main(["serve", "--port", "0", "--feedback-url", url]) == 1
    said = capsys.readouterr().err
    assert re.search(complaint, said), said
    assert "secret" not in said and said.count("\n") == 1


def test_a_check_of_postgresql_stores_nothing(postgres: str) -> None:
    store = FeedbackStore(postgres.replace("+psycopg", ""))
    store.check()
    assert list(store.decisions()) == []
    with store._engine.begin() as connection:
        feedback._METADATA.drop_all(connection)
    store.close()


def kept_in(path: Path) -> list[str]:
    """Texts in a file, whatever its journal is called."""
    with contextlib.closing(FeedbackStore(f"sqlite:///{path}")) as it:
        return [text for _, text in it.texts([found.id for found in it.decisions()])]


def remove(path: Path) -> None:
    for one in path.parent.glob("f.db*"):
        one.unlink()


def replace_by_another(path: Path) -> None:
    with contextlib.closing(FeedbackStore(f"sqlite:///{path.with_name('other.db')}")) as other:
        other.add(decision("of another"))
    path.with_name("other.db").replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "rm": remove,
    "mv": lambda path: path.rename(path.with_name("moved.db")),
    "emptied": lambda path: path.write_bytes(b""),
    "another": replace_by_another,
    "a folder": lambda path: (path.unlink(missing_ok=True), path.mkdir()),
    "garbage": lambda path: path.write_bytes(b"no database" * 999),
    "garbage in its place": lambda path: (
        path.with_name("x").write_bytes(b"no database" * 999),
        path.with_name("x").replace(path),
    ),
    "beside it": lambda path: [one.unlink() for one in path.parent.glob("f.db-*")],
    "a dangling link": lambda path: (path.unlink(missing_ok=True), path.symlink_to(path.with_name("nowhere.db"))),
    "rights": lambda path: path.chmod(0o444),
}


MOMENTS = ("before commit", "after commit", "before")


@pytest.mark.hostile("feedback: file moved under the server")
@pytest.mark.parametrize("change", CHANGES)
def test_an_accepted_decision_is_kept_whatever_happens_to_the_file(change: str, attack: Attack, tmp_path: Path) -> None:
    for moment in MOMENTS[: attack.cases(1, 3)]:
        folder = tmp_path / moment
        folder.mkdir()
        change_while_it_writes(folder, change, moment)
        attack.tried()


@pytest.mark.hostile("feedback: file moved while several write")
def test_a_file_that_is_moved_while_several_write_keeps_its_content(attack: Attack, tmp_path: Path) -> None:
    """By threads of two stores, which lock each other out as the workers of a server do."""
    path = tmp_path / "f.db"
    stores = [FeedbackStore(f"sqlite:///{path}") for _ in range(2)]
    answered: list[str] = []
    stop = threading.Event()

    def write(number: int) -> None:
        for turn in count():
            text = f"{number}-{turn}"
            if stop.is_set():
                return
            with contextlib.suppress(ArtifactError):
                stores[number % 2].add(decision(text))
                answered.append(text)

    def read() -> None:
        while not stop.is_set():
            with contextlib.suppress(ArtifactError):  # there is none just now, or one without a table
                list(stores[0].decisions())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for move in range(moves := attack.cases(3, 30)):
        seen = len(answered)
        wait_until(lambda seen=seen: len(answered) >= seen + 12 and path.exists())  # type: ignore[misc]
        path.rename(tmp_path / f"old{move}.db")
    stop.set()
    for thread in threads:
        thread.join()
    kept = [text for one in tmp_path.glob("*.db") for text in kept_in(one)]
    assert set(answered) <= set(kept)
    attack.tried(moves)


def change_while_it_writes(folder: Path, change: str, moment: str) -> None:
    """A decision is kept where the file was, where it went, or in a new one; else it was refused."""
    path = folder / "f.db"
    store = FeedbackStore(f"sqlite:///{path}")
    store.add(decision("first"))
    changes = iter([CHANGES[change]])
    written: list[str] = []

    def meddle(*_: object) -> None:
        for once in changes if written or moment == "before" else ():
            once(path)

    commit = store._engine.dialect.do_commit
    if moment == "before":
        meddle()
    elif moment == "before commit":
        event.listen(store._engine, "commit", meddle)
    else:
        store._engine.dialect.do_commit = lambda connection: (commit(connection), meddle())  # type: ignore[method-assign]
    event.listen(
        store._engine,
        "after_cursor_execute",
        lambda _connection, _cursor, statement, *_: written.append(statement) if "INSERT" in statement else None,
    )
    answered = []
    for text in ("second", "third", "fourth"):
        with contextlib.suppress(ArtifactError):
            store.add(decision(text))
            answered.append(text)
    assert store.state() == ("ready" if "fourth" in answered else "unavailable")
    kept = [text for one in folder.glob("*.db") if is_database(one) for text in kept_in(one)]
    if not (moment != "before" and change in ("emptied", "garbage")):  # these take away what was kept by then
        assert set(answered) <= set(kept)
    assert next(changes, None) is None


def is_database(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0 and path.read_bytes().startswith(b"SQLite")
