"""Everything that depends on the machine: device, precision, compiling, memory, threads."""
