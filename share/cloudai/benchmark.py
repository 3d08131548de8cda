# SPDX-License-Identifier: Apache-2.0
"""Stands where CloudAI's scripts look for the benchmark of this name, and becomes `moxie suite exec`.

    python benchmark.py CONFIG [BACKEND]

The program is MOXIE_PROGRAM, else bin/moxie of the folder that this file came with, else
/opt/moxie/bin/moxie, else moxie on the PATH. Results go to MOXIE_RESULTS_DIR, else to the folder
results beside the one that this file is in, where CloudAI mounts results_dir unless a test says
otherwise. docs/suite.md shows the mounts.
"""

import os
import shutil
import sys
from pathlib import Path


def find_program(here):
    if "MOXIE_PROGRAM" in os.environ:
        return os.environ["MOXIE_PROGRAM"]
    for folder in [*here.parents, Path("/opt/moxie")]:
        program = folder / "bin" / "moxie"
        if program.is_file():
            return str(program)
    return shutil.which("moxie")


def start(*flags):
    here = Path(__file__).resolve()
    results = os.environ.get("MOXIE_RESULTS_DIR", str(here.parent.parent / "results"))
    program = find_program(here)
    if not os.path.isdir(results):
        print(f"{here.name}: {results} is no folder: set MOXIE_RESULTS_DIR", file=sys.stderr)
        sys.exit(2)
    if program is None:
        print(f"{here.name}: there is no program moxie: set MOXIE_PROGRAM", file=sys.stderr)
        sys.exit(77)
    command = [program, "suite", "exec", "--output-dir", results, *flags, *sys.argv[1:]]
    try:
        os.execv(program, command)
    except OSError as error:
        print(f"{here.name}: {program}: {error.strerror}", file=sys.stderr)
        sys.exit(77)


if __name__ == "__main__":
    start()
