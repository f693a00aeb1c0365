"""Compile, cache and run WebAssembly programs; the only package that touches libwasmtime."""
