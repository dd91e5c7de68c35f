"""What several benchmarks do."""
