"""Run WebAssembly programs as containers."""
