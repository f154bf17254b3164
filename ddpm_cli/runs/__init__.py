"""The contract between who writes a run and who reads it."""
