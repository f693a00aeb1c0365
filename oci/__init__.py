"""OCI artifacts: from Wasm programs to registries and back."""
