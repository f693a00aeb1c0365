;; A complete WebAssembly program (WASI 0.1) that writes one line to its standard output.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovs i32) (param $iovs_len i32) (param $written i32) (result i32)))

  (memory (export "memory") 1)

  ;; One iovec at 0: the address and the length of the text. fd_write stores the count of written bytes at 8.
  (data (i32.const 0) "\10\00\00\00\15\00\00\00")
  (data (i32.const 16) "hello from wasm-shim\n")

  (func (export "_start")
    (drop (call $fd_write
      (i32.const 1)    ;; standard output
      (i32.const 0)    ;; the iovec
      (i32.const 1)    ;; one of them
      (i32.const 8))))
)
