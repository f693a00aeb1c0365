"""ttrpc, the RPC protocol between containerd and its shims: wire codec, frames, server, client."""
