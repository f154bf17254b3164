"""Device, precision, compiling, memory, threads: the only place that knows the machine."""
