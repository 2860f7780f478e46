"""Compiling the kernels: once a processor, and never at the price of a run."""

import logging
import stat

import jax
import pytest

from mqsa_jax.ops.kernels import build

REAL = build.shutil.which("c++")
STUB = "\n".join(f'extern "C" int {name}() {{ return 1; }}' for name in build.SYMBOLS)
"""A library of the same symbols that compiles at once; the kernels themselves other tests run."""


@pytest.fixture
def cache(tmp_path, tmp_path_factory, monkeypatch):
    """An empty folder for compiled programs, and sources that are compiled quickly."""
    sources = tmp_path_factory.mktemp("sources")
    (sources / "handlers.cc").write_text(STUB)
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.delenv(build.SWITCH, raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build, "load", build.load.__wrapped__)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before)


def compiler(path, script: str):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.skipif(REAL is None, reason="no C++ compiler")
def test_compiles_once_and_again_for_another_processor(cache, tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    count = f'echo "$@" >> {calls}; exec {REAL} "$@"'
    monkeypatch.setenv("CXX", compiler(tmp_path / "c++", count))

    def compiled() -> int:
        return sum("-shared" in line for line in calls.read_text().splitlines())

    assert build.load() is not None and compiled() == 1
    assert build.load() is not None and compiled() == 1
    # Nothing half-written is left.
    assert sorted(path.suffix for path in cache.iterdir()) == [".sha256", ".so"]
    # What the compiler says of the processor is part of the name.
    monkeypatch.setenv("CXX", f"{tmp_path / 'c++'} -DANOTHER_PROCESSOR")
    assert build.load() is not None and compiled() == 2
    assert len(list(cache.glob("*.so"))) == 2


@pytest.mark.skipif(REAL is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    "damage",
    [
        lambda library: library.write_bytes(library.read_bytes()[:3000]),
        lambda library: library.write_bytes(b""),
        lambda library: library.write_bytes(library.read_bytes().replace(b"bilinear", b"bilineaX")),
        lambda library: library.unlink(),
        lambda library: library.with_suffix(".sha256").unlink(),
    ],
    ids=["cut short", "empty", "changed", "missing", "not verifiable"],
)
def test_a_damaged_library_is_compiled_again_without_a_word(
    cache, tmp_path, monkeypatch, caplog, damage
):
    calls = tmp_path / "calls"
    count = f'echo "$@" >> {calls}; exec {REAL} "$@"'
    monkeypatch.setenv("CXX", compiler(tmp_path / "c++", count))
    assert build.load() is not None
    (library,) = cache.glob("*.so")
    whole = library.read_bytes()
    # As by another process: the one that loaded a library keeps it.
    copy = library.with_name("copy")
    copy.write_bytes(whole)
    copy.replace(library)
    damage(library)
    for _ in range(2):
        assert all(hasattr(build.load(), name) for name in build.SYMBOLS)
    assert library.stat().st_size == len(whole)
    assert sum("-shared" in line for line in calls.read_text().splitlines()) == 2
    assert not caplog.records


def test_without_a_compiler_xla_does_all(cache, monkeypatch, caplog):
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    assert build.load() is None
    assert not cache.exists() and not caplog.records


def test_can_be_switched_off(cache, monkeypatch):
    monkeypatch.setenv(build.SWITCH, "0")
    assert build.load() is None
    assert not cache.exists()


@pytest.mark.parametrize("script", ["echo first line >&2; echo second >&2; exit 1", "kill -9 $$"])
def test_a_compiler_that_fails_is_told_in_one_line(cache, tmp_path, monkeypatch, caplog, script):
    monkeypatch.setenv("CXX", compiler(tmp_path / "c++", script))
    with caplog.at_level(logging.WARNING):
        assert build.load() is None
    (record,) = caplog.records
    assert "\n" not in record.getMessage() and build.SWITCH in record.getMessage()
    if "first" in script:
        assert record.getMessage().endswith("first line")


def test_a_compiler_that_is_not_there_is_told_in_one_line(cache, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    assert build.load() is None
    (record,) = caplog.records
    assert "absent" in record.getMessage()


def test_a_compiler_that_cannot_be_read_is_told_in_one_line(cache, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "c++ 'no end")
    assert build.load() is None
    (record,) = caplog.records
    assert "\n" not in record.getMessage()


@pytest.mark.skipif(REAL is None, reason="no C++ compiler")
def test_a_library_that_lacks_a_kernel_is_compiled_again_and_told_if_it_still_does(
    cache, tmp_path, monkeypatch, caplog
):
    """As of an older version, whole by its digest."""
    other = tmp_path / "other.cc"
    other.write_text(f'extern "C" void {build.SYMBOLS[0]}() {{}}')
    assert build.load() is not None
    (library,) = cache.glob("*.so")
    older = library.with_name("older.so")
    build._output([REAL, "-shared", "-fPIC", str(other), "-o", str(older)])
    older.replace(library)
    library.with_suffix(".sha256").write_text(build._digest(library))
    assert hasattr(build.load(), build.SYMBOLS[1]) and not caplog.records
    monkeypatch.setattr(build, "SYMBOLS", (*build.SYMBOLS, "mqsa_jax_missing"))
    assert build.load() is None
    (record,) = caplog.records
    assert "mqsa_jax_missing" in record.getMessage()


@pytest.mark.skipif(REAL is None, reason="no C++ compiler")
def test_the_cache_may_be_the_working_directory(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_compilation_cache_dir", ".")
    assert build.load() is not None
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".sha256", ".so"]


def test_a_cache_elsewhere_than_on_disk_is_not_for_libraries(cache):
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/compiled")
    assert "bucket" not in str(build._cache_folder())
    jax.config.update("jax_compilation_cache_dir", "")
    assert build._cache_folder().name == "compiled"
