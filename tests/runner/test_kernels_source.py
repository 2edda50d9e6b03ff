"""How the kernels come into the engine's sources, and how it is known that they did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runner import install, kernels


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Files that have the lines which our patches change, and little else."""
    for patch in sorted(kernels.HERE.glob("*.patch")):
        for number, hunk in enumerate(kernels.changes(patch.read_text())):
            file = tmp_path / hunk.file
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a") as out:
                out.write(f"// what is before {number}\n{hunk.old}")
    return tmp_path


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def hunks() -> list[kernels.Change]:
    return [c for patch in sorted(kernels.HERE.glob("*.patch")) for c in kernels.changes(patch.read_text())]


def test_our_lines_and_headers_come_into_the_source(source: Path) -> None:
    before = files(source)
    kernels.change(source)
    after = files(source)
    for hunk in hunks():
        assert hunk.new in after[hunk.file]
        assert hunk.old != hunk.new
    headers = {f"ggml/src/ggml-cpu/{p.name}": p.read_text() for p in kernels.HERE.glob("*.h")}
    assert len(headers) >= 2
    assert {name: after[name] for name in headers} == headers
    assert after.keys() == before.keys() | headers.keys()
    for name in headers:
        assert any(f'#include "{Path(name).name}"' in text for file, text in after.items() if file in before)


@pytest.mark.parametrize("which", range(len(hunks())))
@pytest.mark.parametrize("times", [0, 2])
def test_a_source_that_a_hunk_does_not_fit_once_stays_as_it_is(source: Path, which: int, times: int) -> None:
    hunk = hunks()[which]
    file = source / hunk.file
    file.write_text(file.read_text().replace(hunk.old, f"// here\n{hunk.old}" * times))
    before = files(source)
    with pytest.raises(kernels.KernelsDoNotFit, match=f"{times} times"):
        kernels.change(source)
    assert files(source) == before


def test_a_source_without_the_file_is_refused(source: Path) -> None:
    (source / hunks()[-1].file).unlink()
    before = files(source)
    with pytest.raises(kernels.KernelsDoNotFit):
        kernels.change(source)
    assert files(source) == before


def test_an_engine_has_our_kernels_when_it_was_compiled_with_those_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    lib = tmp_path / "llama_cpp" / "lib"
    lib.mkdir(parents=True)
    (lib.parent / "__init__.py").write_text("")
    assert not install.has_kernels()
    (lib / kernels.MARK).write_text("of another version")
    assert not install.has_kernels()
    (lib / "libggml-cpu.so.0").write_bytes(b"compiled with them")
    (lib / kernels.MARK).write_text(install._mark(lib))
    assert install.has_kernels()
    (lib / "libggml-cpu.so.0").write_bytes(b"the package index's own, installed over it")
    assert not install.has_kernels()
