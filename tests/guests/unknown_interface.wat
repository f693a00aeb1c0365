;; A command component (WASI 0.2) that needs an interface nobody provides.
(component
  (import "example:missing/thing@1.0.0" (instance $thing
    (export "use-it" (func))))

  (core func $use_it (canon lower (func $thing "use-it")))
  (core module $code
    (import "thing" "use-it" (func $use_it))
    (func (export "run") (result i32)
      (call $use_it)
      (i32.const 0)))
  (core instance $imports (export "use-it" (func $use_it)))
  (core instance $code (instantiate $code (with "thing" (instance $imports))))

  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports))
)
