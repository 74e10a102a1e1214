"""Whatever happens to what an interrupted run kept, or to its input: the same bytes at the end, or a refusal."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("onnxruntime")

from moderation import Classifier, artifacts
from moderation.errors import ArtifactError, DataError, ModerationError
from moderation.scoring import run as file_scoring
from moderation.scoring.jobs import Job, claim_output
from moderation.scoring.options import ScoreOptions
from moderation.scoring.resume import Parts
from moderation.scoring.run import score_file
from moderation.scoring.summary import ScoreSummary
from tests.attack_table import Attack

DAMAGED = "score: damaged parts"
CHANGED = "score: input changed between or while"
FOLDER = ".out.csv.parts"


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """No power is cut here; what is written need not reach the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "sync", lambda path: None)
        yield


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Iterator[Classifier]:
    with Classifier.load(tiny_bundle, backend="onnx", threads=1) as loaded:
        yield loaded


def score(classifier: Classifier, folder: Path, name: str = "in.csv", **settings: object) -> bytes:
    """Score as the verb does, and give what was written: the output and what stands beside it."""
    config = ScoreOptions(input_path=folder / name, output=folder / "out.csv", **{"chunk_rows": 3} | settings)
    with claim_output(config) as output:
        score_file(Job(config, classifier, None, ScoreSummary(classifier.labels), output))
    return (folder / "out.csv").read_bytes() + (folder / "out.csv.meta.json").read_bytes()


def interrupt(classifier: Classifier, folder: Path) -> None:
    """Leave all parts behind, as a kill before the output was written would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parts, "finish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score(classifier, folder)


@pytest.fixture(scope="module")
def kept(table: pd.DataFrame, classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder with an input and all parts of its output; what the output has to be."""
    folder = tmp_path_factory.mktemp("kept")
    table[["id", "comment_text"]].head(24).to_csv(folder / "in.csv", index=False)
    whole = score(classifier, folder)
    for name in ("out.csv", "out.csv.meta.json"):
        (folder / name).unlink()
    interrupt(classifier, folder)
    assert len(list((folder / FOLDER).glob("*.arrow"))) == 8
    return folder, whole


@pytest.fixture(scope="module")
def foreign(table: pd.DataFrame, classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Parts of the same rows of another input."""
    folder = tmp_path_factory.mktemp("foreign")
    table[["id", "comment_text"]].tail(24).to_csv(folder / "in.csv", index=False)
    interrupt(classifier, folder)
    return sorted((folder / FOLDER).glob("*.arrow"))


Damage = Callable[[random.Random, Path, list[Path]], None]


def flip(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def part_of(rng: random.Random, folder: Path) -> Path:
    return rng.choice(sorted(folder.glob("*.arrow")))


def truncate(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    path = part_of(rng, folder)
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def delete(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    part_of(rng, folder).unlink()


def exchange(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    first, second = rng.sample(sorted(folder.glob("*.arrow")), 2)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def put_foreign_content(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    path = part_of(rng, folder)
    path.write_bytes(rng.choice(foreign).read_bytes())


def put_foreign_part(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    part_of(rng, folder).unlink()
    shutil.copy(rng.choice(foreign), folder)


def rename(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    """Another first row, or another number of rows, or both."""
    path = part_of(rng, folder)
    first, n_rows, digest = path.stem.split("-")
    which = rng.randrange(3)
    first = first if which == 0 else f"{rng.randrange(30):012d}"
    n_rows = n_rows if which == 1 else f"{rng.randrange(30):06d}"
    path.replace(path.with_name(f"{first}-{n_rows}-{digest}.arrow"))


def litter(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    path = part_of(rng, folder)
    for name in (f".{path.name}.0123456789ab.tmp", f"x{path.name}", f"{path.name}x", "made.json", "out.csv"):
        shutil.copy(path, folder / name)


def damage_record(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    flip(rng, folder / "parts.json")


def cut_record(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    path = folder / "parts.json"
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def lose_record(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    (folder / "parts.json").unlink()


def put_foreign_record(rng: random.Random, folder: Path, foreign: list[Path]) -> None:
    shutil.copy(foreign[0].with_name("parts.json"), folder)


def try_damage(
    classifier: Classifier, kept: tuple[Path, bytes], folder: Path, damage: Callable[[Path], None]
) -> ModerationError | None:
    """Damage a copy of the parts, go on from them, and check that the output is right or refused."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept[0], folder)
    damage(folder / FOLDER)
    try:
        assert score(classifier, folder, resume=True) == kept[1]
    except ModerationError as error:
        assert str(folder / FOLDER) in str(error)
        assert not (folder / "out.csv").exists()
        return error
    assert sorted(path.name for path in folder.iterdir()) == ["in.csv", "out.csv", "out.csv.meta.json"]
    return None


@pytest.mark.hostile(DAMAGED)
def test_no_flipped_bit_of_a_part_changes_the_output(
    classifier: Classifier, kept: tuple[Path, bytes], tmp_path: Path, attack: Attack
) -> None:
    n_cases = attack.cases(60, 400)
    for seed in range(n_cases):
        rng = random.Random(seed)
        refused = try_damage(classifier, kept, tmp_path / "d", lambda at, rng=rng: flip(rng, part_of(rng, at)))
        assert refused is None, f"seed {seed}"
        attack.tried()


@pytest.mark.hostile(DAMAGED)
@pytest.mark.parametrize(
    "damage",
    [
        *(truncate, delete, exchange, put_foreign_content, put_foreign_part, rename, litter),
        *(damage_record, cut_record, lose_record, put_foreign_record),
    ],
)
def test_changed_parts_do_not_change_the_output(
    damage: Damage,
    classifier: Classifier,
    kept: tuple[Path, bytes],
    foreign: list[Path],
    tmp_path: Path,
    attack: Attack,
) -> None:
    of_record = damage in (damage_record, cut_record, put_foreign_record)
    for seed in range(attack.cases(2, 40)):
        rng = random.Random(seed)
        refused = try_damage(classifier, kept, tmp_path / "d", lambda at, rng=rng: damage(rng, at, foreign))
        assert refused is None or of_record, f"seed {seed}: {refused}"
        assert refused is None or "start again with --overwrite" in str(refused), f"seed {seed}: {refused}"
        attack.tried()


@pytest.mark.hostile(DAMAGED)
def test_only_our_own_output_is_replaced_without_overwrite(
    classifier: Classifier, kept: tuple[Path, bytes], tmp_path: Path, attack: Attack
) -> None:
    """A kill behind the output left its parts; then something happened to one of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parts, "remove", lambda self: None)
        shutil.copytree(kept[0], tmp_path / "killed")
        score(classifier, tmp_path / "killed", resume=True)
    for seed in range(attack.cases(8, 80)):
        rng, folder = random.Random(seed), tmp_path / str(seed)
        shutil.copytree(tmp_path / "killed", folder)
        damaged = folder / ("out.csv" if seed % 2 else f"{FOLDER}/made.json")
        state = damaged.stat()
        if seed % 4 < 3:
            flip(rng, damaged)
        elif seed % 8 == 3:
            damaged.write_bytes(b"mine")
        os.utime(damaged, ns=(state.st_atime_ns, state.st_mtime_ns))
        before = (folder / "out.csv").read_bytes()
        try:
            assert score(classifier, folder, resume=True) == kept[1]
        except ArtifactError as error:
            assert "--resume --overwrite" in str(error), f"seed {seed}"
            assert (folder / "out.csv").read_bytes() == before, f"seed {seed}"
        else:
            assert seed % 8 == 7, "one that nothing happened to, where a part of it was touched alone"
        assert score(classifier, folder, resume=True, overwrite=True) == kept[1]
        attack.tried()


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'"r99","more"\n')


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def edit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"kind", b"kill").replace(b"fine", b"damn"))


def put_back(path: Path) -> None:
    """Other content for as long as it takes, then the old one."""
    content = path.read_bytes()
    edit(path)
    path.write_bytes(content)


def replace(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy(path, other)
    edit(other)
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


CHANGES = [append, cut, edit, put_back, replace, remove]


@pytest.mark.hostile(CHANGED)
@pytest.mark.parametrize("set_back", [False, True], ids=["", "times set back"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_input_that_changes_while_it_is_read_gives_its_own_rows_or_none(
    change: Callable[[Path], None],
    set_back: bool,
    classifier: Classifier,
    kept: tuple[Path, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: Attack,
) -> None:
    real, source = file_scoring.score_batch, tmp_path / "in.csv"
    moments = range(8) if attack.long else (3,)
    for moment in moments:
        shutil.copy(kept[0] / "in.csv", source)
        state, n_scored = source.stat(), []

        def change_once(*arguments: object, **options: object) -> object:
            n_scored.append(1)  # noqa: B023 - called in this turn of the loop alone
            if len(n_scored) == moment + 1:  # noqa: B023
                change(source)
                if set_back and source.exists():
                    os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))  # noqa: B023
            return real(*arguments, **options)

        monkeypatch.setattr(file_scoring, "score_batch", change_once)
        try:
            assert score(classifier, tmp_path, overwrite=True) == kept[1], moment
        except ModerationError as error:
            assert str(source) in str(error)
        else:
            assert change is put_back and moment == 7, "behind the last row that was read"
        monkeypatch.setattr(file_scoring, "score_batch", real)
        (tmp_path / "out.csv").unlink(missing_ok=True)
        shutil.copy(kept[0] / "in.csv", source)
        assert score(classifier, tmp_path, overwrite=True) == kept[1]
        attack.tried()


@pytest.mark.hostile(CHANGED)
@pytest.mark.parametrize("change", [append, cut, edit, replace])
def test_an_input_that_changed_between_runs_is_refused_although_its_times_are_the_old_ones(
    change: Callable[[Path], None], classifier: Classifier, kept: tuple[Path, bytes], tmp_path: Path, attack: Attack
) -> None:
    shutil.copytree(kept[0], tmp_path / "k")
    source = tmp_path / "k" / "in.csv"
    state = source.stat()
    change(source)
    os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(ArtifactError, match="input_sha256 was"):
        score(classifier, tmp_path / "k", resume=True)
    attack.tried()


def test_a_change_that_no_time_shows_is_found_by_the_hash(
    classifier: Classifier, kept: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copy(kept[0] / "in.csv", tmp_path))
    real = file_scoring.score_batch
    monkeypatch.setattr(file_scoring, "_state", lambda path: (0, 0, 0))
    monkeypatch.setattr(file_scoring, "score_batch", lambda *a, **k: (edit(source), real(*a, **k))[1])
    with pytest.raises(DataError, match="changed while it was read"):
        score(classifier, tmp_path)
    assert not (tmp_path / "out.csv").exists()


def test_an_input_that_was_only_touched_costs_no_row(
    classifier: Classifier, kept: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copy(kept[0] / "in.csv", tmp_path))
    real = file_scoring.score_batch
    with monkeypatch.context() as patch:
        patch.setattr(file_scoring, "score_batch", lambda *a, **k: (source.chmod(0o600), real(*a, **k))[1])
        with pytest.raises(DataError, match=r"touched while it was read\. 3 rows are finished and kept"):
            score(classifier, tmp_path)
    assert score(classifier, tmp_path, resume=True) == kept[1]
