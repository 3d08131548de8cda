# SPDX-License-Identifier: Apache-2.0
"""The same as benchmark.py beside it, in low-latency mode, which the name says."""

import sys

sys.dont_write_bytecode = True  # this folder is somebody else's

import benchmark

benchmark.start("--mode", "low_latency")
