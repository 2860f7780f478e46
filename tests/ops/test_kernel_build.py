"""Compiling the kernels: once a processor, and never at the price of a run."""

import logging
import stat

import jax
import pytest

from mqsa_jax.ops.kernels import build

REAL = build.shutil.which("c++")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder for compiled programs, and a compiler that counts its calls."""
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
    assert [path.suffix for path in cache.iterdir()] == [".so"]  # nothing half-written is left
    # What the compiler says of the processor is part of the name.
    monkeypatch.setenv("CXX", f"{tmp_path / 'c++'} -DANOTHER_PROCESSOR")
    assert build.load() is not None and compiled() == 2
    assert len(list(cache.iterdir())) == 2


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
def test_the_cache_may_be_the_working_directory(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_compilation_cache_dir", ".")
    assert build.load() is not None
    assert [path.suffix for path in tmp_path.iterdir()] == [".so"]


def test_a_cache_elsewhere_than_on_disk_is_not_for_libraries(cache):
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/compiled")
    assert "bucket" not in str(build._cache_folder())
    jax.config.update("jax_compilation_cache_dir", "")
    assert build._cache_folder().name == "compiled"
