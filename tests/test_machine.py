"""What is known of the machine, and what the C library is told."""

import subprocess
import sys

import pytest
import torch

from hf_rnn_s2s import machine
from hf_rnn_s2s.machine import has_fast_bfloat16, has_fast_int8, keep_freed_memory


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True, "avx512_bw": True}, False),
        ({}, False),
    ],
)
def test_bfloat16_is_fast_where_it_has_units(
    capabilities: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bfloat16("cpu") is fast
    assert not has_fast_bfloat16("mps")


def test_older_versions_of_torch_are_asked_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    for has_amx in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_amx=has_amx: has_amx, raising=False)
        assert has_fast_bfloat16("cpu") is has_amx


@pytest.mark.parametrize(
    ("processor", "capabilities", "fast"),
    [
        ("x86_64", {"avx512_vnni": True}, True),
        ("AMD64", {"avx_vnni": True, "avx2": True}, True),
        ("x86_64", {"avx2": True, "avx512_bw": True}, False),
        ("arm64", {}, True),
    ],
)
def test_sums_of_8_bit_products_overflow_on_x86_without_vnni(
    processor: str, capabilities: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: processor)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_int8() is fast
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: fast, raising=False)
    assert has_fast_int8() is fast


PAGES = """
import resource, torch
from hf_rnn_s2s.machine import keep_freed_memory
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = pages()
assert keep_freed_memory()
pages()
print(first, pages())
"""


@pytest.mark.skipif(machine.platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again() -> None:
    """Pages that the system hands out while 40 MB, more than glibc ever keeps by itself, are allotted 20 times."""
    command = [sys.executable, "-c", PAGES]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, outcome.stdout.split())
    assert after < 100
    assert before > 10 * (after + 1)  # fewer where pages are huge


@pytest.mark.parametrize(("most", "done"), [(2**30, True), (2**25, True), (0, False)])
def test_older_versions_of_glibc_take_less(most: int, done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[int, int] = {}

    class OldLibrary:
        @staticmethod
        def mallopt(parameter: int, value: int) -> int:
            if parameter == machine.M_MMAP_THRESHOLD and value > most:
                return 0
            settings[parameter] = value
            return 1

    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("glibc", "2.17"))
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: OldLibrary)
    assert keep_freed_memory() is done
    assert settings.get(machine.M_MMAP_THRESHOLD, 0) == most
    assert settings[machine.M_TRIM_THRESHOLD] == 2**31 - 1


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
