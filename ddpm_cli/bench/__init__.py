"""The benchmarks of `ddpm bench`."""
