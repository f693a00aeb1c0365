;; A core module whose functions take and return every number type, and some that are awkward to call.
(module $numbers
  (func (export "echo_i64") (param i64) (result i64) (local.get 0))
  (func (export "add_i64") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))

  (func (export "echo_f32") (param f32) (result f32) (local.get 0))
  (func (export "add_f32") (param f32 f32) (result f32) (f32.add (local.get 0) (local.get 1)))

  (func (export "echo_f64") (param f64) (result f64) (local.get 0))
  (func (export "add_f64") (param f64 f64) (result f64) (f64.add (local.get 0) (local.get 1)))

  ;; Two results: the quotient and the remainder. Traps when the divisor is 0.
  (func (export "divide") (param $a i32) (param $b i32) (result i32 i32)
    (i32.div_s (local.get $a) (local.get $b))
    (i32.rem_s (local.get $a) (local.get $b)))

  (func (export "nothing"))

  ;; Traps two named functions deep.
  (func $inner unreachable)
  (func $outer (export "fail") (call $inner))

  ;; No text names an externref, so this cannot be called from a command line.
  (func (export "take_reference") (param externref))

  ;; Not a function.
  (global (export "answer") i32 (i32.const 42))
)
