"""What ``benchmarks/gpu_check.py`` checks: on a device that this project has never run on."""
