"""The terminal door: commands for operators, and private servers for a laptop, the tests and the benchmarks."""
