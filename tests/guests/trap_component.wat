;; A command component (WASI 0.2) that traps two named functions deep.
(component
  (core module $code
    (func $inner unreachable)
    (func $outer (export "run") (result i32)
      (call $inner)
      (i32.const 0)))
  (core instance $code (instantiate $code))

  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports))
)
