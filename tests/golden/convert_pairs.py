"""The inputs in ``convert``: every pair, and the files that are converted alone."""

from pathlib import Path

from orchestrator.convert.files import Given, Wishes, convert

FOLDER = Path(__file__).parent / "convert"
PAIRS = sorted(path.stem for path in FOLDER.glob("*.csdef"))
ALONE = sorted(path.name for path in FOLDER.glob("alone-*") if path.suffix not in {".yaml", ".report"})


def given(name: str) -> list[Given]:
    paths = [FOLDER / name] if name in ALONE else [FOLDER / f"{name}.csdef", FOLDER / f"{name}.cscfg"]
    return [Given(path.name, path.read_bytes()) for path in paths]


def converted(name: str):
    return convert(given(name), Wishes(role="web") if name in ALONE else Wishes())
