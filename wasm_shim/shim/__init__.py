"""containerd's side of wasm-shim: the Task service and what surrounds it."""
