"""The code in docs/ runs as it stands there; what the pages point at is there."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.samples.tiny import photo
from vlcam.cli.commands.models import families_table, published_table

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted({*ROOT.glob("*.md"), *DOCS.rglob("*.md")} - {ROOT / "CHANGELOG.md"})


def test_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("own_model.md", 6, tmp_path, monkeypatch)
    saved = {"vqa", "classifier", "detector", "clip"}
    assert {p.name for p in tmp_path.iterdir()} == {"photo.jpg", *saved}


def test_own_captioner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("own_captioner.md", 3, tmp_path, monkeypatch)
    assert {p.name for p in Path("explained").iterdir()} == {"explanation.json", "maps.npz"}
    assert Path("figure.png").stat().st_size > 10_000


def test_own_method(tmp_path: Path) -> None:
    module, trial = blocks("own_method.md")
    (tmp_path / "my_method.py").write_text(module, "utf-8")
    installed("own_method.md", tmp_path)
    fresh(trial, tmp_path)
    assert (tmp_path / "positive.png").stat().st_size > 10_000


def test_own_family(tmp_path: Path) -> None:
    family, line, trial = blocks("own_family.md")
    captioner = "\n".join(blocks("own_captioner.md")[:2])
    (tmp_path / "my_captioner.py").write_text(captioner, "utf-8")
    (tmp_path / "my_family.py").write_text(family, "utf-8")
    (tmp_path / "my_families.py").write_text(line, "utf-8")
    installed("own_family.md", tmp_path)
    check = "from vlcam.testing import check_adapter\ncheck_adapter(model, caption='a cat')"
    fresh(f"{trial}\n{check}", tmp_path)


@pytest.mark.parametrize("page", ["quick_start.md", "index.md"])
def test_the_first_pages(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(page, len(blocks(page)), tmp_path, monkeypatch)


def test_the_table_of_families() -> None:
    page = (DOCS / "models.md").read_text("utf-8")
    written = re.search(r"<!-- vlcam models --markdown -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert written is not None and written.group(1) == families_table()


def test_the_table_of_published_models() -> None:
    page = (DOCS / "models.md").read_text("utf-8")
    written = re.search(r"--markdown, published -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert written is not None and written.group(1) == published_table()


def test_the_pictures_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    make, photos = import_module("make"), import_module("photo")
    shown = {path.stem for path in (DOCS / "pictures").glob("*.webp")}
    assert shown == {*make.PICTURES, "photo"}
    assert set(photos.SHOWN) < set(photos.CLASSES)
    assert len(make.figure2().axes) == 3 + make.CHANNELS  # and it compares two ways to the map


def test_the_tree_of_the_architecture() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    script = [sys.executable, str(DOCS / "site" / "tree.py")]
    tree = subprocess.run(script, capture_output=True, encoding="utf-8", check=True).stdout
    assert tree in page, "python docs/site/tree.py --write"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 160


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_page_points_at_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    own = r"(?:vlcam|captioning|vqa|word_maps|benchmarks|tests|docs)/[\w/.-]*"
    files = re.findall(rf"`({own})`", text)
    missing += [file for file in files if not (ROOT / file).exists()]
    modules = re.findall(r"python -m (benchmarks[\w.]*)", text)
    missing += [name for name in modules if not is_module(name)]
    assert not missing


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def blocks(page: str, language: str = "python") -> list[str]:
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(page: str, count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the blocks of a page one behind the other, beside a photo.jpg."""
    code = blocks(page)
    assert len(code) == count
    monkeypatch.chdir(folder)
    photo(300, 200).save("photo.jpg")
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, str(DOCS / page), "exec"), names)


def installed(page: str, folder: Path) -> None:
    """Install the package whose pyproject.toml a page shows, from a folder into that folder."""
    (text,) = blocks(page, "toml")
    (folder / "pyproject.toml").write_text(text, "utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    target = ["--no-build-isolation", "--target", str(folder / "installed"), str(folder)]
    subprocess.run([*pip, *target], check=True, capture_output=True)


def fresh(code: str, folder: Path) -> None:
    """Run code beside a photo.jpg in a process of its own, which finds the folder's packages."""
    photo(300, 200).save(folder / "photo.jpg")
    script = f"import sys; sys.path[:0] = {[str(folder / 'installed'), str(ROOT)]!r}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
