"""What pictures took is kept for the next ones."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, threading
import numpy as np
from service.server import keep_freed_memory

if {keep}:
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt

def work():
    for round in range(11):
        if round == 1:
            before = faults()
        held = [np.ones(1_200_000, np.float32) for _ in range(4)]
        del held
    print((faults() - before) // 10)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def faults_a_round(*, keep: bool, **environment: str) -> int:
    program = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    done = subprocess.run(program, check=True, capture_output=True, text=True, env=os.environ | environment)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_memory_of_one_picture_is_there_for_the_next() -> None:
    assert faults_a_round(keep=False) > 1000, "what this is about"
    assert faults_a_round(keep=True) < 50


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_operator_says_to_glibc_holds(name: str) -> None:
    value = {"MALLOC_ARENA_MAX": "4", "GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}[name]
    assert faults_a_round(keep=True, **{name: value}) > 1000
